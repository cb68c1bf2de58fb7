"""Classify what a camera sees: always the newest frame, with smoothed labels and an event when the label changes."""

from __future__ import annotations

from edgeq.watching.expected import Expected, read_expected
from edgeq.watching.keeping import Keeper
from edgeq.watching.observed import Interruption, Observed
from edgeq.watching.watch import watch

__all__ = ["Expected", "Interruption", "Keeper", "Observed", "read_expected", "watch"]
