"""What every command says in the same way."""

from __future__ import annotations

import click

__all__ = ["complain"]


def complain(message: object, word: str = "Error") -> None:
    """Say on stderr what is wrong, in one line that begins with `word`, red on a terminal."""
    click.echo(f"{click.style(word, fg='red')}: {message}", err=True)
