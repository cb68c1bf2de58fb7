"""Smooth labels over several frames, so that a single unclear frame does not change them."""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

from edgeq.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Smoother"]


class Smoother:
    """Chooses the present class from the mean probabilities of the latest frames.

    A class becomes the present one if its mean reaches the threshold and exceeds that of the present class by the
    hysteresis. The present class is given up if its mean falls below the threshold by more than the hysteresis.

    Attributes:
        present: the present class, or None.
    """

    def __init__(self, window: int = 5, threshold: float = 0.5, hysteresis: float = 0.1) -> None:
        """Start without a class.

        Args:
            window: number of frames to average, 1 or more.
            threshold: mean probability that a class must reach, in [0, 1].
            hysteresis: margin of probability against flickering, in [0, 1].

        Raises:
            InputError: a value is out of its range.
        """
        for name, value, low in (("window", window, 1), ("threshold", threshold, 0), ("hysteresis", hysteresis, 0)):
            if not low <= value or (low == 0 and value > 1):
                raise InputError(f"{name} {value}: must be {'1 or more' if low else 'in 0..1'}")
        self.present: int | None = None
        self._threshold, self._hysteresis = threshold, hysteresis
        self._latest: deque[npt.NDArray[np.float64]] = deque(maxlen=window)

    def add(self, probabilities: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Add a frame's probabilities, (classes,) float64, update `present`, and return the mean probabilities."""
        import numpy as np

        self._latest.append(probabilities)
        mean = np.mean(self._latest, axis=0)
        best = int(np.argmax(mean))
        if self.present is not None and mean[self.present] < self._threshold - self._hysteresis:
            self.present = None
        lead = mean[best] - (mean[self.present] if self.present is not None else 0.0)
        if mean[best] >= self._threshold and (self.present is None or lead > self._hysteresis):
            self.present = best
        return np.asarray(mean)
