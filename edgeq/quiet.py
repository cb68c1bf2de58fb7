"""Silence native libraries, which write directly to the file descriptors of stdout and stderr."""

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
_inside = 0  # number of open `quiet` contexts, over all threads
_saved: dict[int, int] = {}  # the duplicate that restores each silenced file descriptor
_verbose: ContextVar[bool] = ContextVar("verbose", default=False)


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Discard everything written to file descriptors 1 and 2, unless `verbose`.

    This includes what Python code prints, except in callbacks wrapped with `heard`. The descriptors belong to the
    whole process. If several threads are inside `quiet`, the first one to enter silences the descriptors and the last
    one to leave restores them.

    Args:
        verbose: whether to leave the descriptors unchanged, in this context and in every `quiet` nested in it.
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
    """Wrap a callback so that it prints as usual when it is called within `quiet`."""

    def call(*arguments: P.args, **keywords: P.kwargs) -> T:
        with _aloud():
            return callback(*arguments, **keywords)

    return call


@contextlib.contextmanager
def _aloud() -> Iterator[None]:
    """Restore the descriptors temporarily. Until then, no other thread can enter or leave `quiet`."""
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
    global _inside  # noqa: PLW0603 (the descriptors are global, and so is the number of contexts that hold them)
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
