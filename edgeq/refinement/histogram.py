"""Count an activation's values in bins whose width is relative to the value, so that no range must be known before."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Histogram"]

_SHIFT = 17
"""A bin holds the float32 numbers that share their sign, exponent and first 6 bits of the mantissa: IEEE 754's order of
bits makes the upper 15 bits of a number its bin. A bin's ends differ by at most 1.6 %."""
_BINS = 1 << (32 - _SHIFT)
_TINY = float(np.finfo(np.float32).tiny)
_EVERY = 3  # one position in this many is counted, with all of its channels, because channels' ranges differ


class Histogram:
    """How often each value of an activation occurs.

    Attributes:
        counts: (bins,) int64, by bin.
    """

    def __init__(self) -> None:
        """Start without values."""
        self.counts: npt.NDArray[np.int64] = np.zeros(_BINS, np.int64)

    @staticmethod
    def counts_of(activation: npt.NDArray[Any]) -> npt.NDArray[np.int64]:
        """Count one position in three of an activation, (..., channels) float32."""
        counted = np.ascontiguousarray(activation.reshape(-1, activation.shape[-1])[::_EVERY], np.float32)
        return np.bincount((counted.view(np.uint32) >> _SHIFT).ravel(), minlength=_BINS)

    def add(self, counts: npt.NDArray[np.int64]) -> None:
        """Add the counts that `counts_of` returned."""
        self.counts += counts

    def values(self) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return the finite values that occur, each the middle of its bin, and how often; both (values,), ascending."""
        bins = np.flatnonzero(self.counts).astype(np.uint32)
        middles = ((bins << _SHIFT) | (1 << (_SHIFT - 1))).view(np.float32)
        finite = np.isfinite(middles)
        values, counts = middles[finite].astype(np.float64), self.counts[bins[finite]]
        values[np.abs(values) < _TINY] = 0.0  # zero and what is too close to it
        order = np.argsort(values, kind="stable")
        return values[order], counts[order]
