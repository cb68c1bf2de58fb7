"""How long work tells whoever started it how far it is."""

from __future__ import annotations

from collections.abc import Callable

__all__ = ["Progress", "no_progress"]

Progress = Callable[[str, int, int], None]
"""Called with what is being done, how many of its steps are done, and how many there are."""


def no_progress(stage: str, done: int, total: int) -> None:
    """For callers who do not want to know."""
