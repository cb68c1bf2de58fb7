"""What the page shows: a summary of what was observed so far, which threads share."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from threading import Lock
from typing import Any, Protocol

from edgeq.watching.expected import Expected
from edgeq.watching.observed import Interruption, Observed
from edgeq.watching.tally import Tally

__all__ = ["PhotoKeeper", "WatchState"]

_MOST_EVENTS = 20
_MOST_LABELS = 20


class PhotoKeeper(Protocol):
    """Keeps photos for a person who looks at the page. Must allow calls from several threads."""

    def keep(self, observed: Observed, label: str | None = None) -> Path:
        """Store the frame of a result, and return the file.

        Args:
            observed: the result.
            label: what a person says that the frame shows; None if she did not say.

        Raises:
            EdgeqError: the frame cannot be stored; the message is one line.
        """


class WatchState:
    """The latest result, recent events and counts.

    Attributes:
        labels: the model's labels.
        latest: the latest result, or None before the first.
        pictured: the latest result that has an image; a board does not send all images.
        throttling: what a Raspberry Pi's firmware reports about its power and heat, or None if it cannot be asked.
    """

    def __init__(
        self, model: str, source: str, labels: Sequence[str], keeps_photos: bool, expected: Expected | None = None
    ) -> None:
        """Start with nothing observed.

        Args:
            model: the model's name on the page.
            source: the source's name on the page.
            labels: the model's labels.
            keeps_photos: whether the page offers to keep photos.
            expected: what the model predicted on photos, to show beside what is seen; or None.
        """
        self.labels = tuple(labels)
        self.latest: Observed | None = None
        self.pictured: Observed | None = None
        self.throttling: tuple[str, ...] | None = None
        self._fixed = {"model": model, "source": source, "keeps_photos": keeps_photos}
        self._interruption: Interruption | None = None
        self._events: deque[Observed | Interruption] = deque(maxlen=_MOST_EVENTS)
        self._tally = Tally(expected)
        self._lock = Lock()

    def add(self, item: Observed | Interruption) -> None:
        """Take in a result or an interruption."""
        with self._lock:
            if isinstance(item, Interruption):
                self._interruption = item
                self._events.appendleft(item)
                return
            self.latest, self._interruption = item, None
            self._tally.add(item)
            if not isinstance(item.image, bytes) or item.image:
                self.pictured = item
            if item.changed:
                # An event keeps no image: the images of 20 events could be large.
                self._events.appendleft(replace(item, image=b""))

    def to_json(self) -> dict[str, Any]:
        """Return the state as plain JSON data, which docs/watch.md describes."""
        with self._lock:
            latest, interruption, events = self.latest, self._interruption, list(self._events)
            summary = self._tally.to_json(_MOST_LABELS)
        return self._fixed | {
            "latest": latest.to_json() if latest else None,
            "interruption": interruption.to_json() if interruption else None,
            "throttling": self.throttling,
            "events": [_event(event) for event in events],
            "summary": summary,
        }


def _event(item: Observed | Interruption) -> dict[str, Any]:
    """Return an event as JSON data; of a result, only what an event is about."""
    content = item.to_json()
    if isinstance(item, Interruption):
        return content
    return {key: content[key] for key in ("event", "time", "frame", "file", "label", "probability")}
