"""The pictures of the page: one JPEG per frame at most, and the frames that a person may still want to keep."""

from __future__ import annotations

import asyncio
from collections import OrderedDict
from collections.abc import Callable
from concurrent.futures import Executor
from dataclasses import replace
from io import BytesIO
from pathlib import Path

from edgeq.errors import EdgeqError
from edgeq.images import decode
from edgeq.watching.observed import Observed
from edgeq.watching.picture import jpeg_bytes

__all__ = ["Pictures", "preview"]

_LARGE_BYTES = 1 << 19
_MOST_SIDE = 1280  # pixels; more than a browser's window shows of it
_QUALITY = 80
_REMEMBERED_BYTES = 1 << 25
_REMEMBERED = 600
_HELD = 8


def preview(image: bytes) -> bytes:
    """Return a JPEG for the page: unchanged unless it is large, else at most 1280 pixels wide and high.

    Args:
        image: a JPEG.

    Raises:
        ImageError: the image cannot be decoded.
    """
    if len(image) <= _LARGE_BYTES:
        return image
    shown = decode(image, enough=lambda width, height: (min(width, _MOST_SIDE), min(height, _MOST_SIDE)))
    shown.thumbnail((_MOST_SIDE, _MOST_SIDE))
    encoded = BytesIO()
    shown.save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()


class Pictures:
    """Makes the pictures, and remembers the frames that were shown: a person keeps what she saw, not a later frame.

    All methods belong to the thread of the event loop; decoding and encoding run on the executor.
    """

    def __init__(self, latest: Callable[[], Observed | None], executor: Executor) -> None:
        """Start without a picture.

        Args:
            latest: returns the latest result that has an image, or None.
            executor: where to encode.
        """
        self._latest, self._executor = latest, executor
        self._newest: tuple[int, bytes] | None = None
        self._shown: OrderedDict[int, Observed] = OrderedDict()
        self._held: OrderedDict[int, Observed] = OrderedDict()
        self._bytes = 0
        self._encoding = asyncio.Lock()

    async def newest(self) -> tuple[int, bytes] | None:
        """Return the newest frame's number and JPEG; None if there is none. A frame that is damaged is skipped."""
        async with self._encoding:
            observed = self._latest()
            if observed is None or (self._newest and observed.frame == self._newest[0]):
                return self._newest
            loop = asyncio.get_running_loop()
            try:
                stored, picture = await loop.run_in_executor(self._executor, _prepared, observed)
            except EdgeqError:  # a photo that was removed meanwhile
                return self._newest
            self._remember(stored)
            self._newest = observed.frame, picture
            return self._newest

    def shown(self, frame: int) -> Observed | None:
        """Return the result of a frame that was shown, or None if it was not, or is forgotten."""
        return self._held.get(frame) or self._shown.get(frame)

    def hold(self, frame: int) -> bool:
        """Remember a frame longer than others, while a person chooses its label; return whether it was known."""
        observed = self.shown(frame)
        if observed is None:
            return False
        self._held[frame] = observed
        self._held.move_to_end(frame)
        while len(self._held) > _HELD:
            self._held.popitem(last=False)
        return True

    def _remember(self, observed: Observed) -> None:
        self._shown[observed.frame] = observed
        self._bytes += _size(observed)
        while self._bytes > _REMEMBERED_BYTES or len(self._shown) > _REMEMBERED:
            _, forgotten = self._shown.popitem(last=False)
            self._bytes -= _size(forgotten)


def _prepared(observed: Observed) -> tuple[Observed, bytes]:
    """Return the result with its image as a file or a JPEG, which needs less memory, and the JPEG for the page."""
    jpeg = jpeg_bytes(observed.image)
    is_file = isinstance(observed.image, str | Path)
    return observed if is_file else replace(observed, image=jpeg), preview(jpeg)


def _size(observed: Observed) -> int:
    return len(observed.image) if isinstance(observed.image, bytes) else 0
