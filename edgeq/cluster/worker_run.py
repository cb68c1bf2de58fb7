"""What a worker of a cluster has for the tasks of one run: copies of files, and what to call when the run ends."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from pathlib import Path

__all__ = ["at_end_of_run", "end_run", "file_name", "of_run", "stored_file"]

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)
_at_end: dict[Path, set[Callable[[], object]]] = {}  # by the folder of the run


def file_name(digest: str) -> str:
    """Return the name of the copy of a model with this SHA-256 digest."""
    return f"{digest}.tflite"


def stored_file(digest: str) -> Path | None:
    """Return the copy that the calling task's worker has; None outside of a cluster, or if there is none."""
    folder = _folder.get()
    path = folder / file_name(digest) if folder else None
    return path if path and path.is_file() else None


def at_end_of_run(function: Callable[[], object]) -> None:
    """Call a function, once, when the run of the calling task ends. Outside of a cluster, it is not called.

    Args:
        function: what releases memory or processes that the tasks of a run share; it may be called on any thread.
    """
    folder = _folder.get()
    if folder is not None:
        _at_end.setdefault(folder, set()).add(function)


@contextlib.contextmanager
def of_run(folder: Path) -> Iterator[None]:
    """Make this thread's calls in the block those of a run, whose files are in `folder`."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)


def end_run(folder: Path) -> None:
    """Call what `at_end_of_run` was given for a run."""
    for function in _at_end.pop(folder, ()):
        function()
