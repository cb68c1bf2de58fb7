"""What a source of frames is, and how long to wait before one that failed is opened again."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edgeq.errors import EdgeqError
from edgeq.images import Source as Image

__all__ = ["FrameSource", "GrowingWait", "SourceLostError"]

_FIRST_WAIT_S, _LONGEST_WAIT_S = 1.0, 30.0


class SourceLostError(EdgeqError):
    """A source failed, and may come back."""


class FrameSource(Protocol):
    """A source of frames.

    Attributes:
        name: the source's name in messages.
        comes_back: whether to open the source again when it fails or ends.
        keeps_all: whether each frame is wanted, even if they come faster than the model runs.
    """

    name: str
    comes_back: bool
    keeps_all: bool

    def frames(self) -> Iterator[Image]:
        """Open the source, and yield its frames until it ends.

        Raises:
            SourceLostError: the source cannot be opened, or failed.
            EdgeqError: the source cannot be used at all.
        """

    def close(self) -> None:
        """End `frames`, which another thread may be running; may be called several times."""


class GrowingWait:
    """The waits before a source that failed is opened again: 1 s, then twice as long each time, up to 30 s."""

    def __init__(self) -> None:
        self.reset()

    def reset(self) -> None:
        """Start with the shortest wait again: the source works."""
        self._next_s = _FIRST_WAIT_S

    def take(self) -> float:
        """Return the next wait in seconds."""
        wait_s = self._next_s
        self._next_s = min(2 * wait_s, _LONGEST_WAIT_S)
        return wait_s
