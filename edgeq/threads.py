"""Work on many items on several threads, with the same results for any number of threads."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from functools import wraps
from typing import ParamSpec, TypeVar

__all__ = ["one_blas_thread", "run_both", "run_in_order"]

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")
_Other = TypeVar("_Other")
_Arguments = ParamSpec("_Arguments")

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


def run_both(first: Callable[[], _Result], second: Callable[[], _Other], threads: int) -> tuple[_Result, _Other]:
    """Call two functions, at the same time if there are two threads or more, and return their results."""
    if threads < 2:
        return first(), second()
    with ThreadPoolExecutor(1) as pool:
        waiting = pool.submit(second)
        return first(), waiting.result()


def one_blas_thread(function: Callable[_Arguments, _Result]) -> Callable[_Arguments, _Result]:
    """Decorate a function so that, while it runs, each of NumPy's matrix products uses one thread.

    A product on several threads sums in an order that depends on their number, and so do its last bits. And BLAS's
    threads wait actively, which slows down every other busy program. Separate threads for independent work do neither.
    """

    @wraps(function)
    def limited(*args: _Arguments.args, **kwargs: _Arguments.kwargs) -> _Result:
        from threadpoolctl import threadpool_limits  # imported here: devices lack it

        with threadpool_limits(1, user_api="blas"):
            return function(*args, **kwargs)

    return limited
