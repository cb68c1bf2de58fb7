"""Count what a model predicts, with which probability, whether or not it is right."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.classification import class_name
from edgeq.comparison.exact import Exact, add, exact, numbers, texts
from edgeq.comparison.result import PROBABILITY_BINS, PredictedClass

__all__ = ["Predicted"]


@dataclass
class _Class:
    images: int = 0
    probability: Exact = 0  # sum of the most probable class's probabilities


@dataclass
class Predicted:
    """The predictions of one model: for each image the most probable class, the first one if several tie.

    All sums are exact, so predictions on parts of the images add up to the same numbers.
    """

    _classes: defaultdict[int, _Class] = field(default_factory=lambda: defaultdict(_Class))
    _bins: list[int] = field(default_factory=lambda: [0] * PROBABILITY_BINS)

    def add(self, probabilities: npt.NDArray[np.float64]) -> None:
        """Count a prediction.

        Args:
            probabilities: the classes' probabilities of an image, (classes,) float64.
        """
        top = int(probabilities.argmax())
        probability = float(probabilities[top])
        found = self._classes[top]
        found.images += 1
        found.probability += exact(probability)
        self._bins[min(int(probability * PROBABILITY_BINS), PROBABILITY_BINS - 1)] += 1

    def merge(self, part: Predicted) -> None:
        """Add the predictions on other images."""
        for index, found in part._classes.items():
            add(self._classes[index], found)
        self._bins = [count + more for count, more in zip(self._bins, part._bins, strict=True)]

    def to_json(self) -> dict[str, Any]:
        """Return the sums as plain JSON data."""
        classes = {str(index): texts(found) for index, found in sorted(self._classes.items())}
        return {"classes": classes, "bins": self._bins}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Predicted:
        """Make an object from the data that :meth:`to_json` returns.

        Raises:
            KeyError, TypeError, ValueError: the data are something else.
        """
        predicted = cls()
        for index, found in data["classes"].items():
            predicted._classes[int(index)] = _Class(*numbers(found))
        predicted.merge(cls(_bins=[int(count) for count in data["bins"]]))
        return predicted

    def result(self, labels: Sequence[str] = (), first: int = 0) -> tuple[PredictedClass, ...]:
        """Return the classes that were predicted, the most frequent first.

        Args:
            labels: the classes' names, or empty.
            first: the index of the first class among the model's outputs: 1 if a background class was left out.
        """
        images = sum(found.images for found in self._classes.values())
        classes = sorted(self._classes.items(), key=lambda item: (-item[1].images, item[0]))
        return tuple(
            PredictedClass(
                index=index + first,
                label=class_name(labels, index),
                images=found.images,
                share=found.images / images,
                mean_probability=float(found.probability / found.images),
            )
            for index, found in classes
        )

    @property
    def bins(self) -> tuple[int, ...]:
        """Number of images by the probability of the most probable class; see `Comparison.top_probabilities`."""
        return tuple(self._bins)
