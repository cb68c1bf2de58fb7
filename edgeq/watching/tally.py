"""Count what was seen since the start, so that a camera that sees only one thing, or nothing, is noticed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.watching.deviation import Deviation, DeviationDetector
from edgeq.watching.expected import Expected
from edgeq.watching.observed import Observed

__all__ = ["Seen", "Tally"]


@dataclass(frozen=True)
class Seen:
    """How often a label was seen.

    Attributes:
        label: the smoothed label, None for frames in which no class was probable enough; or the label of frames alone.
        frames: number of classified frames with this label.
        mean_probability: mean of their probabilities.
    """

    label: str | None
    frames: int
    mean_probability: float


class _Counts:
    """Frames and the sums of their probabilities, by label."""

    def __init__(self) -> None:
        self.frames, self.total = 0, 0.0
        self._counts: dict[str | None, tuple[int, float]] = {}

    def add(self, label: str | None, probability: float) -> None:
        frames, total = self._counts.get(label, (0, 0.0))
        self._counts[label] = frames + 1, total + probability
        self.frames, self.total = self.frames + 1, self.total + probability

    @property
    def seen(self) -> list[Seen]:
        found = [Seen(label, frames, round(total / frames, 6)) for label, (frames, total) in self._counts.items()]
        return sorted(found, key=lambda seen: (-seen.frames, seen.label or ""))


class Tally:
    """Counts classified frames by their smoothed label and, to compare them with photos, by that of the frame alone."""

    def __init__(self, expected: Expected | None = None) -> None:
        """Start with no frames.

        Args:
            expected: what the model predicted on photos; None to compare with nothing.
        """
        self._smoothed, self._alone = _Counts(), _Counts()
        self._expected = expected
        self._detector = DeviationDetector(expected) if expected else None

    def add(self, observed: Observed) -> None:
        """Count a frame."""
        self._smoothed.add(observed.label, observed.probability)
        if self._detector is not None:
            self._alone.add(observed.predictions[0].label, observed.predictions[0].probability)
            self._detector.add(observed)

    @property
    def seen(self) -> list[Seen]:
        """What was seen, the most frequent label first."""
        return self._smoothed.seen

    @property
    def deviation(self) -> Deviation | None:
        """What is unlike the photos, as of the last half hour that is over; None if nothing is."""
        return self._detector.found if self._detector else None

    def to_json(self, most: int | None = None) -> dict[str, Any]:
        """Return the counts as plain JSON data, of at most `most` labels."""
        summary = {
            "event": "summary",
            "frames": self._smoothed.frames,
            "labels": [asdict(each) for each in self.seen[:most]],
        }
        return summary | ({"expected": self._beside(self._expected, most)} if self._expected else {})

    def _beside(self, expected: Expected, most: int | None) -> dict[str, Any]:
        """Return what was seen beside what was expected: the labels that were seen, then the others."""
        alone = self._alone
        labels: list[dict[str, Any]] = [
            asdict(seen) | {"share": round(seen.frames / alone.frames, 6)} for seen in alone.seen
        ]
        names = {label["label"] for label in labels}
        others = sorted(expected.labels.keys() - names, key=lambda label: (-expected.labels[label].images, label))
        labels += [{"label": label, "frames": 0, "mean_probability": None, "share": 0.0} for label in others]
        for label in labels[:most]:
            photos = expected.labels.get(label["label"])
            label["expected_share"] = round(expected.images_of(label["label"]) / expected.images, 6)
            label["expected_mean_probability"] = photos and round(photos.mean_probability, 6)
        return {
            "images": expected.images,
            "mean_probability": round(alone.total / alone.frames, 6) if alone.frames else None,
            "expected_mean_probability": round(expected.mean_probability, 6),
            "labels": labels[:most],
            "deviation": asdict(self.deviation) if self.deviation else None,
        }
