"""What a source of frames is."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol

from edgeq.errors import EdgeqError
from edgeq.images import Source as Image

__all__ = ["FIRST_WAIT_S", "LONGEST_WAIT_S", "FrameSource", "SourceLostError"]

FIRST_WAIT_S, LONGEST_WAIT_S = 1.0, 30.0
"""How long to wait before a source that failed is opened again; each wait is twice as long as the one before."""


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
