"""Find the network for a folder of photos and a board: a sweep over resolution, width, architecture and format.

Importing this package does not import TensorFlow; worker processes do.
"""

from __future__ import annotations

from edgeq.sweeping.grid import SweepGrid, SweepLimits
from edgeq.sweeping.plan import SweepPlan
from edgeq.sweeping.result import CellAccuracy, CellLatency, Status, Sweep, SweepCell, SweepPicks
from edgeq.sweeping.sweep import sweep

__all__ = [
    "CellAccuracy",
    "CellLatency",
    "Status",
    "Sweep",
    "SweepCell",
    "SweepGrid",
    "SweepLimits",
    "SweepPicks",
    "SweepPlan",
    "sweep",
]
