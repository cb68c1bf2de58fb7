"""Inspect a .tflite file: its content, its costs, and whether targets support it."""

from __future__ import annotations

from edgeq.inspection.inspection import Inspection, Port, inspect
from edgeq.inspection.targets import TARGETS, TargetReport, check_target, require_target

__all__ = ["TARGETS", "Inspection", "Port", "TargetReport", "check_target", "inspect", "require_target"]
