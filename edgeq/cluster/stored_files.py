"""Copies of files that a worker of a cluster has for the tasks of one run."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

__all__ = ["file_name", "stored_file", "stored_in"]

_folder: ContextVar[Path | None] = ContextVar("folder", default=None)


def file_name(digest: str) -> str:
    """Return the name of the copy of a model with this SHA-256 digest."""
    return f"{digest}.tflite"


def stored_file(digest: str) -> Path | None:
    """Return the copy that the calling task's worker has; None outside of a cluster, or if there is none."""
    folder = _folder.get()
    path = folder / file_name(digest) if folder else None
    return path if path and path.is_file() else None


@contextlib.contextmanager
def stored_in(folder: Path) -> Iterator[None]:
    """Make `stored_file` look in a folder, within this block and this thread."""
    token = _folder.set(folder)
    try:
        yield
    finally:
        _folder.reset(token)
