"""What to expect of a camera: what its model predicted on the photos of a comparison."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.errors import InputError, one_line
from edgeq.watching.model_file import model_digest

if TYPE_CHECKING:
    from edgeq.runtime import Model

__all__ = ["Expected", "ExpectedLabel", "expected_of", "read_comparison", "read_expected"]

_MAKE_IT = "run edgeq compare --json with this model as CANDIDATE"


@dataclass(frozen=True)
class ExpectedLabel:
    """What a model predicted as one label.

    Attributes:
        images: number of photos.
        mean_probability: mean of the label's probability on them.
    """

    images: int
    mean_probability: float


@dataclass(frozen=True)
class Expected:
    """What a model predicted on photos.

    Attributes:
        images: number of photos.
        mean_probability: mean probability of the predicted class.
        labels: what was predicted, by label.
        top_probabilities: number of photos by the probability of the predicted class, in equal parts of [0, 1].
        classes: number of the model's classes.
    """

    images: int
    mean_probability: float
    labels: Mapping[str, ExpectedLabel]
    top_probabilities: tuple[int, ...]
    classes: int

    def images_of(self, label: str) -> int:
        """Return the number of photos that were predicted as a label."""
        return self.labels[label].images if label in self.labels else 0

    def chance_of_label(self, label: str) -> float:
        """Estimate the chance that another photo is predicted as a label; above 0 even if none was."""
        return self._chance(self.images_of(label))

    def chance_of_less(self, probability: float) -> float:
        """Estimate the chance that the model is at most this sure of another photo."""
        parts = len(self.top_probabilities)
        return self._chance(sum(self.top_probabilities[: min(int(probability * parts), parts - 1) + 1]))

    def is_nearer_to_guessing(self, probability: float) -> bool:
        """Return whether a mean probability is nearer to 1 / classes than to that of the photos."""
        return probability < (1 / self.classes + self.mean_probability) / 2

    def _chance(self, images: int) -> float:
        # (n + 1) / (m + 1), as in conformal prediction (Vovk, Gammerman and Shafer 2005, chapter 2): the new photo
        # counts as one of them, so that few photos prove little.
        return (images + 1) / (self.images + 1)


def read_expected(path: str | Path, model: str | Path | Model, labels: Sequence[str]) -> Expected:
    """Read what ``edgeq compare --json`` wrote.

    Args:
        path: the file.
        model: the model that watches. It must have been the comparison's candidate.
        labels: the names of the model's classes, one per class; numbers if it has no names.

    Raises:
        InputError: the file cannot be read, is something else, or is of another model or of other labels.
    """
    return expected_of(read_comparison(path, model), labels)


def read_comparison(path: str | Path, model: str | Path | Model) -> dict[str, Any]:
    """Read what ``edgeq compare --json`` wrote, before the labels are known; see `read_expected`.

    Returns:
        The data for `expected_of`.
    """
    sha256 = model_digest(model)
    try:
        found = json.loads(Path(path).read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({one_line(error.strerror or error)})") from None
    except (ValueError, RecursionError):
        raise InputError(f"{path}: is not JSON; {_MAKE_IT}") from None
    _check_kind(path, found)
    candidate = found["candidate"]
    if not isinstance(candidate, dict) or candidate.get("sha256") != sha256:
        other = one_line(str(candidate.get("path"))) if isinstance(candidate, dict) else "unknown"
        raise InputError(f"{path}: is of another model, {other}; {_MAKE_IT}")
    return {**found, "file": str(path)}


def expected_of(comparison: dict[str, Any], labels: Sequence[str]) -> Expected:
    """Return what to expect according to a comparison; see `read_expected`."""
    try:
        return _parsed(comparison, labels)
    except (ArithmeticError, AttributeError, IndexError, KeyError, TypeError, ValueError):
        raise InputError(f"{comparison['file']}: is damaged; {_MAKE_IT}") from None


def _check_kind(path: str | Path, found: Any) -> None:
    keys = found if isinstance(found, dict) else {}
    if keys.get("task") == "tensors":
        raise InputError(f"{path}: compares plain tensors, not labels of images; {_MAKE_IT}, on photos")
    if "places" in keys:
        raise InputError(f"{path}: compares one model on several runtimes or boards, not two models; {_MAKE_IT}")
    if "candidate" not in keys or "agreement" not in keys:
        raise InputError(f"{path}: was not written by edgeq compare --json; {_MAKE_IT}")
    if "predicted" not in keys or "top_probabilities" not in keys:
        raise InputError(f"{path}: was written by an older edgeq, without what the model predicted; {_MAKE_IT}")


def _parsed(found: dict[str, Any], names: Sequence[str]) -> Expected:
    labels: dict[str, ExpectedLabel] = {}
    for each in found["predicted"]:
        index, images, mean = int(each["index"]), int(each["images"]), float(each["mean_probability"])
        if not 0 <= mean <= 1:
            raise ValueError("not a probability")
        name = names[index]
        if name not in (each["label"], str(index)):
            raise InputError(
                f"{found['file']}: calls class {index} {one_line(str(each['label']))!r}, not {name!r}; give the same "
                "--labels to edgeq compare and edgeq watch"
            )
        before = labels.get(name, ExpectedLabel(0, 0.0))  # two classes may have one name, as in ImageNet
        total = before.images + images
        labels[name] = ExpectedLabel(total, (before.images * before.mean_probability + images * mean) / total)
    images = sum(label.images for label in labels.values())
    bins = tuple(int(count) for count in found["top_probabilities"])
    if sum(bins) != images or images != found["images"]:
        raise ValueError("the counts do not add up")
    mean = sum(label.images * label.mean_probability for label in labels.values()) / images
    return Expected(images, mean, labels, bins, len(names))
