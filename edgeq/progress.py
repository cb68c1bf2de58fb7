"""The callback with which long-running functions report their progress."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "no_progress"]

Progress = Callable[[str, int, int], None]
"""Called as ``progress(stage, done, total)``: the stage's name, its finished steps and all its steps."""


def no_progress(stage: str, done: int, total: int) -> None:
    """Ignore the progress: the default callback of every function that reports progress."""
