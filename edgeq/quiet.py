"""Silence for native libraries, which write straight to the file descriptors of stdout and stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Iterator

__all__ = ["quiet"]

_lock = threading.Lock()
_inside = 0  # how many contexts are open, over all threads
_saved: dict[int, int] = {}  # file descriptor to the duplicate that restores it


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Send everything written to file descriptors 1 and 2 nowhere, unless `verbose`.

    Also what Python code prints in the meantime. Whoever has to be heard (a progress bar) writes to a
    duplicate of the descriptor made before. The descriptors belong to the whole process: where several threads
    are inside, the first to enter silences and the last to leave restores.
    """
    if verbose:
        yield
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def _enter() -> None:
    global _inside  # noqa: PLW0603 (the descriptors are global, so is who holds them)
    with _lock:
        if not _inside:
            _flush()
            nowhere = os.open(os.devnull, os.O_WRONLY)
            try:
                for descriptor in (1, 2):
                    _saved[descriptor] = os.dup(descriptor)
                    os.dup2(nowhere, descriptor)
            except OSError:  # too many open files
                _restore()
                raise
            finally:
                os.close(nowhere)
        _inside += 1


def _leave() -> None:
    global _inside  # noqa: PLW0603
    with _lock:
        _inside -= 1
        if not _inside:
            try:
                _flush()
            finally:
                _restore()


def _restore() -> None:
    for descriptor, copy in _saved.items():
        os.dup2(copy, descriptor)
        os.close(copy)
    _saved.clear()


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
