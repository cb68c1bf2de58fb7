"""Silence for native libraries, which write straight to the file descriptors of stdout and stderr."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator

__all__ = ["quiet"]


@contextlib.contextmanager
def quiet(verbose: bool = False) -> Iterator[None]:
    """Send everything written to file descriptors 1 and 2 nowhere, unless `verbose`.

    Also what Python code prints in the meantime. Whoever has to be heard (a progress bar) writes to a
    duplicate of the descriptor made before. The descriptors belong to the whole process, hence to all of its
    threads.
    """
    if verbose:
        yield
        return
    _flush()
    saved = {fd: os.dup(fd) for fd in (1, 2)}
    nowhere = os.open(os.devnull, os.O_WRONLY)
    try:
        for fd in saved:
            os.dup2(nowhere, fd)
        yield
    finally:
        _flush()
        for fd, copy in saved.items():
            os.dup2(copy, fd)
            os.close(copy)
        os.close(nowhere)


def _flush() -> None:
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:
            stream.flush()
