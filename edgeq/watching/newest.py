"""Hand the newest item from one thread to another; older items that were not taken are dropped."""

from __future__ import annotations

from threading import Condition
from typing import Generic, TypeVar

__all__ = ["Newest"]

_Item = TypeVar("_Item")


class Newest(Generic[_Item]):
    """Holds at most one item.

    Attributes:
        dropped: number of items that were replaced before they were taken.
    """

    def __init__(self) -> None:
        """Start empty."""
        self.dropped = 0
        self._items: list[_Item] = []
        self._ended = False
        self._error: BaseException | None = None
        self._changed = Condition()

    def put(self, item: _Item, wait: bool = False) -> None:
        """Offer an item.

        Args:
            item: the item.
            wait: whether to wait until the item before it has been taken, instead of replacing that.
        """
        with self._changed:
            if wait:
                self._changed.wait_for(lambda: not self._items or self._ended)
            self.dropped += len(self._items)
            self._items = [item]
            self._changed.notify_all()

    def wait_until_taken(self) -> None:
        """Wait until there is no item that has not been taken, or no more are wanted."""
        with self._changed:
            self._changed.wait_for(lambda: not self._items or self._ended)

    def take(self) -> _Item | None:
        """Wait for an item and remove it; None if there will be no more.

        Raises:
            BaseException: what `end` was called with.
        """
        with self._changed:
            self._changed.wait_for(lambda: bool(self._items) or self._ended)
            if self._items:
                item = self._items.pop()
                self._changed.notify_all()
                return item
            if self._error is not None:
                raise self._error
            return None

    def end(self, error: BaseException | None = None) -> None:
        """Say that there will be no more items; an item that is there can still be taken.

        Args:
            error: raised by `take` once all is taken.
        """
        with self._changed:
            self._ended, self._error = True, self._error or error
            self._changed.notify_all()
