"""Classify what a camera sees: always the newest frame, with smoothed labels and an event when the label changes."""

from __future__ import annotations

from edgeq.watching.observed import Interruption, Observed
from edgeq.watching.watch import watch

__all__ = ["Interruption", "Observed", "watch"]
