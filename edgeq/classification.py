"""The result of classifying an image: named classes with probabilities.

NumPy is imported inside functions, so that the first image can be decoded while NumPy is being loaded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from edgeq.errors import EdgeqError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = ["Classification", "Prediction", "class_name", "class_names", "top_predictions"]


@dataclass(frozen=True)
class Prediction:
    """A class and the probability that a model gives it.

    Attributes:
        index: the class's index, from 0.
        label: the class's name, or its index as text if the model has no labels.
        probability: the class's probability, in [0, 1].
    """

    index: int
    label: str
    probability: float


@dataclass(frozen=True)
class Classification:
    """The result for one image, from a model on this host or on a device.

    Attributes:
        file: the image's path as it was given; ``image`` for an image without a name, ``-`` for standard input. None
            if a device failed before its first image.
        predictions: the most probable classes, best first; empty if there was an error.
        times_ms: the time of each step in milliseconds, by name: ``decode``, ``preprocess`` and ``invoke``. A device
            that receives tensors reports ``invoke`` only.
        device: the device that ran the model, as the caller named it; None for this host.
        error: why there are no predictions; None if there are.
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


def class_name(labels: Sequence[str], index: int) -> str:
    """Return the name of a class: its label, or its index as text if the model has no labels."""
    return labels[index] if labels else str(index)


def class_names(labels: Sequence[str], classes: int) -> tuple[str, ...]:
    """Return the names of all classes; see `class_name`."""
    return tuple(class_name(labels, index) for index in range(classes))


def top_predictions(
    probabilities: npt.NDArray[np.float64], labels: Sequence[str] = (), count: int = 5
) -> list[Prediction]:
    """Return the `count` most probable classes, best first. Equally probable classes are ordered by index.

    Args:
        probabilities: the classes' probabilities, (classes,) float64.
        labels: the classes' names, one per class, or empty.
        count: number of classes to return; all of them if there are fewer.

    Returns:
        The classes, with their probabilities rounded to six digits.
    """
    import numpy as np

    order = np.argsort(-probabilities, kind="stable")[:count]
    return [Prediction(int(i), class_name(labels, int(i)), round(float(probabilities[i]), 6)) for i in order]
