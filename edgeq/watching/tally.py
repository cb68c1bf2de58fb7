"""Count what was seen since the start, so that a camera that sees only one thing, or nothing, is noticed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.watching.observed import Observed

__all__ = ["Seen", "Tally"]


@dataclass(frozen=True)
class Seen:
    """How often a label was seen.

    Attributes:
        label: the smoothed label; None for frames in which no class was probable enough.
        frames: number of classified frames with this label.
        mean_probability: mean of their `Observed.probability`.
    """

    label: str | None
    frames: int
    mean_probability: float


class Tally:
    """Counts classified frames by their smoothed label."""

    def __init__(self) -> None:
        """Start with no frames."""
        self._counts: dict[str | None, tuple[int, float]] = {}

    def add(self, observed: Observed) -> None:
        """Count a frame."""
        frames, total = self._counts.get(observed.label, (0, 0.0))
        self._counts[observed.label] = frames + 1, total + observed.probability

    @property
    def seen(self) -> list[Seen]:
        """What was seen, the most frequent label first."""
        found = [Seen(label, frames, round(total / frames, 6)) for label, (frames, total) in self._counts.items()]
        return sorted(found, key=lambda seen: (-seen.frames, seen.label or ""))

    def to_json(self) -> dict[str, Any]:
        """Return the counts as plain JSON data."""
        seen = self.seen
        return {
            "event": "summary",
            "frames": sum(each.frames for each in seen),
            "labels": [asdict(each) for each in seen],
        }
