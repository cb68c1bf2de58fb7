"""The result of classifying an image: named classes with probabilities.

NumPy is imported where it is used, so that the first image can be decoded while NumPy is being loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgeq.errors import EdgeqError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Classification", "Prediction", "top_predictions"]


@dataclass(frozen=True)
class Prediction:
    """One class that a model considers.

    Attributes:
        index: of the class, from 0.
        label: its name, or the index as text where names are unknown.
        probability: in [0, 1].
    """

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Classification:
    """The result of one image, from a model on this host or on a device.

    Attributes:
        file: the image's path as it was given; ``image`` for one without a name, ``-`` for standard input. None if
            a device failed before its first image.
        predictions: the most probable classes, best first; empty if there was an error.
        times_ms: how long each step took, in milliseconds: ``decode``, ``preprocess``, ``invoke``. A device that
            receives tensors reports ``invoke`` alone.
        device: the device that ran the model, as the caller named it; None for this host.
        error: the reason why there are no predictions, or None.
    """

    file: str | None
    predictions: tuple[Prediction, ...] = ()
    times_ms: dict[str, float] = field(default_factory=dict)
    device: str | None = None
    error: EdgeqError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: ``device`` and ``file`` if known, then ``error`` or the predictions and times."""
        document = {key: value for key in ("device", "file") if (value := getattr(self, key)) is not None}
        if self.error is not None:
            return document | {"error": str(self.error).removeprefix(f"{self.file}: ")}
        return document | {"predictions": [asdict(p) for p in self.predictions], "times_ms": self.times_ms}


def top_predictions(
    probabilities: npt.NDArray[np.float64], labels: Sequence[str] = (), count: int = 5
) -> list[Prediction]:
    """Name the `count` most probable classes, best first; equal ones in the order of their index.

    Args:
        probabilities: (classes,) float64.
        labels: one per class, or empty.
        count: number of predictions; all classes if there are fewer.

    Returns:
        The classes, their probabilities rounded to six digits.
    """
    import numpy as np

    order = np.argsort(-probabilities, kind="stable")[:count]
    return [Prediction(int(i), labels[i] if labels else str(int(i)), round(float(probabilities[i]), 6)) for i in order]
