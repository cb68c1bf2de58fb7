"""The time of a sweep, over all of its runs."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

__all__ = ["Budget"]

_RECORD_EVERY_S = 3.0


class Budget:
    """The time that all runs of a sweep may take together, and that they took so far. The clock starts at once."""

    def __init__(self, seconds: float | None) -> None:
        """Start the clock.

        Args:
            seconds: the time of all runs together; None for no limit.
        """
        self.seconds = math.inf if seconds is None else seconds
        self._before, self._start = 0.0, time.monotonic()
        self._record: Callable[[float], None] | None = None
        self._recorded = -math.inf

    def keep(self, spent_before: float, record: Callable[[float], None]) -> None:
        """Add the time of earlier runs, and from now on record the time.

        Args:
            spent_before: the time that earlier runs took, in seconds.
            record: stores the time that all runs took so far; called by :meth:`tick` every few seconds.
        """
        self._before, self._record = spent_before, record

    @property
    def spent(self) -> float:
        """Seconds that all runs took so far."""
        return self._before + time.monotonic() - self._start

    @property
    def left(self) -> float:
        """Seconds that are left; negative if there are none, infinite without a limit."""
        return self.seconds - self.spent

    def tick(self, at_once: bool = False) -> None:
        """Record the time spent, unless that was done a moment ago."""
        if self._record is not None and (at_once or time.monotonic() - self._recorded >= _RECORD_EVERY_S):
            self._record(self.spent)
            self._recorded = time.monotonic()
