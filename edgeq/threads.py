"""Work on many items on several threads, with the results in the order of the items."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

__all__ = ["run_in_order"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")

_AHEAD = 4
"""Number of items per thread that are submitted ahead: enough to keep it busy, few enough to limit memory."""


def run_in_order(
    work: Callable[[_Item], _Result],
    items: Iterable[_Item],
    threads: int,
    prepare: Callable[[], object] | None = None,
) -> Iterator[_Result]:
    """Call a function for each item on several threads, and yield the results in the order of the items.

    Decoding, resizing and inference release the GIL, so the threads use all cores.

    Args:
        work: the function.
        items: its arguments.
        threads: number of threads.
        prepare: called once on each thread before its first item, for example to load a model into a
            `threading.local`.
    """
    waiting: deque[Future[_Result]] = deque()
    with ThreadPoolExecutor(threads, initializer=prepare) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(work, item))
                if len(waiting) >= _AHEAD * threads:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
