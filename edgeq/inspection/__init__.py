"""What is inside a .tflite file, what it costs to run, and on which targets it would not run."""

from __future__ import annotations

from edgeq.inspection.inspection import Inspection, Port, inspect
from edgeq.inspection.targets import TARGETS, TargetReport, check_target, require_target

__all__ = ["TARGETS", "Inspection", "Port", "TargetReport", "check_target", "inspect", "require_target"]
