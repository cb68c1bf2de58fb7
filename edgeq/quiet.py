"""Silence for native libraries, which write straight to the file descriptors of stdout and stderr."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import ParamSpec, TypeVar

__all__ = ["heard", "quiet"]

P = ParamSpec("P")
T = TypeVar("T")

_lock = threading.RLock()
_inside = 0  # how many contexts are open, over all threads
_saved: dict[int, int] = {}  # file descriptor to the duplicate that restores it
_verbose: ContextVar[bool] = ContextVar("verbose", default=False)


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Discard everything written to file descriptors 1 and 2, unless `verbose`.

    This includes what Python code prints, except in callbacks wrapped with `heard`. The descriptors belong
    to the whole process: where several threads are inside, the first to enter silences and the last to leave
    restores.

    Args:
        verbose: whether to leave the descriptors alone, in this context and in every `quiet` nested in it.
    """
    if verbose or _verbose.get():
        token = _verbose.set(True)
        try:
            yield
        finally:
            _verbose.reset(token)
        return
    _enter()
    try:
        yield
    finally:
        _leave()


def heard(callback: Callable[P, T]) -> Callable[P, T]:
    """Wrap a caller's function so that it prints as usual when a library function calls it within `quiet`."""

    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        with _aloud():
            return callback(*arguments, **keywords)

    return call


@contextlib.contextmanager
def _aloud() -> Iterator[None]:
    """Restore the descriptors for a moment; other threads wait before they enter or leave `quiet`."""
    with _lock:
        if _saved:
            _flush()
        muted = {descriptor: os.dup(descriptor) for descriptor in _saved}
        for descriptor, copy in _saved.items():
            os.dup2(copy, descriptor)
        try:
            yield
        finally:
            if _saved:
                _flush()
            for descriptor, copy in muted.items():
                os.dup2(copy, descriptor)
                os.close(copy)


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
