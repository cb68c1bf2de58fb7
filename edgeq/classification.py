"""From probabilities to named predictions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Prediction", "top_predictions"]


@dataclass(frozen=True)
class Prediction:
    """One class that an image may show.

    Attributes:
        index: of the class, from 0.
        label: its name, or the index as text where names are unknown.
        probability: in [0, 1].
    """

    index: int
    label: str
    probability: float


def top_predictions(
    probabilities: npt.NDArray[np.float64], labels: Sequence[str] = (), count: int = 5
) -> list[Prediction]:
    """The `count` most probable classes, best first; equal ones in order of their index.

    Args:
        probabilities: (classes,) float64.
        labels: one a class, or empty.
        count: how many; never more than there are classes.
    """
    order = np.argsort(-probabilities, kind="stable")[:count]
    return [Prediction(int(i), labels[i] if labels else str(int(i)), round(float(probabilities[i]), 6)) for i in order]
