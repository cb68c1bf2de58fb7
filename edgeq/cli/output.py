"""What every command says in the same way."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import click

__all__ = ["complain", "list_skipped"]

_MOST_SKIPPED_SHOWN = 10


def complain(message: object, word: str = "Error") -> None:
    """Say on stderr what is wrong, in one line that begins with `word`, red on a terminal."""
    click.echo(f"{click.style(word, fg='red')}: {message}", err=True)


def list_skipped(skipped: Sequence[tuple[Path, str]]) -> None:
    """Say which files could not serve, each with the reason; of many, the first."""
    if skipped:
        click.echo(f"Skipped {len(skipped)} files:")
    for path, reason in skipped[:_MOST_SKIPPED_SHOWN]:
        click.echo(f"  {path}: {reason}")
    if len(skipped) > _MOST_SKIPPED_SHOWN:
        click.echo(f"  ... and {len(skipped) - _MOST_SKIPPED_SHOWN} more")
