"""Send the newest value to any number of viewers. A viewer who is slow skips values, and never delays the others."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress

__all__ = ["Feed"]

_REPEATED_AFTER_S = 15.0  # so that a connection whose other end is gone is noticed


class Feed:
    """Makes values while there are viewers, each once for all of them.

    All methods belong to the thread of the event loop.

    Attributes:
        viewers: number of viewers.
    """

    def __init__(self, make: Callable[[], Awaitable[bytes | None]], interval_s: float) -> None:
        """Start without viewers.

        Args:
            make: returns the present value, or None if there is none.
            interval_s: shortest time between two values, in seconds.
        """
        self.viewers = 0
        self._make, self._interval_s = make, interval_s
        self._number, self._value = 0, b""
        self._changed, self._published = asyncio.Event(), asyncio.Event()
        self._closed = False

    def change(self) -> None:
        """Say that there is something new."""
        self._changed.set()

    async def run(self) -> None:
        """Publish values until cancelled."""
        while True:
            with suppress(asyncio.TimeoutError):
                await asyncio.wait_for(self._changed.wait(), _REPEATED_AFTER_S)
            self._changed.clear()
            value = await self._make() if self.viewers else None
            if value is not None:
                self._number, self._value = self._number + 1, value
                self._wake()
                await asyncio.sleep(self._interval_s)

    @contextmanager
    def viewer(self) -> Iterator[None]:
        """Count a viewer, for whom values are made."""
        self.viewers += 1
        self.change()
        try:
            yield
        finally:
            self.viewers -= 1

    async def after(self, number: int) -> tuple[int, bytes] | None:
        """Return the newest value and its number, once that is above `number`; None at the end."""
        while self._number <= number and not self._closed:
            await self._published.wait()
        return None if self._closed else (self._number, self._value)

    @property
    def number(self) -> int:
        """The number of the newest value; a new viewer waits for the next one, which is made at once."""
        return self._number

    def close(self) -> None:
        """End the waiting of all viewers."""
        self._closed = True
        self._wake()

    def _wake(self) -> None:
        published, self._published = self._published, asyncio.Event()
        published.set()
