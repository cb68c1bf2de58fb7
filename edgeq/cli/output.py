"""What every command says in the same way."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import click

from edgeq.images import NOT_AN_IMAGE, skipped_note

__all__ = ["complain", "given_options", "list_skipped", "report_skipped", "show"]

_MOST_SKIPPED_SHOWN = 10


def complain(message: object, word: str = "Error") -> None:
    """Say on stderr what is wrong, in one line that begins with `word`, red on a terminal."""
    click.echo(f"{click.style(word, fg='red')}: {message}", err=True)


def list_skipped(skipped: Sequence[tuple[Path, str]]) -> None:
    """Say which images could not serve, each with the reason; of many, the first. Other files are counted."""
    images = [(path, reason) for path, reason in skipped if reason != NOT_AN_IMAGE]
    if images:
        click.echo(f"Skipped {len(images)} files:")
    for path, reason in images[:_MOST_SKIPPED_SHOWN]:
        click.echo(f"  {path}: {reason}")
    if len(images) > _MOST_SKIPPED_SHOWN:
        click.echo(f"  ... and {len(images) - _MOST_SKIPPED_SHOWN} more")
    report_skipped(len(skipped) - len(images), err=False)


def report_skipped(count: int, err: bool = True) -> None:
    """Say how many files of folders were left out as they are no images, if any."""
    if count:
        click.echo(f"{skipped_note(count).capitalize()}.", err=err)


def show(lines: Iterable[str], document: dict[str, Any], json_path: str | None) -> None:
    """Print a result, and write it as JSON where that is wanted; - prints the JSON alone."""
    text = json.dumps(document, indent=1)
    if json_path == "-":
        click.echo(text)
        return
    for line in lines:
        click.echo(line)
    if json_path is not None:  # last, so that the result is seen even if the file cannot be written
        from edgeq.files import write_text  # edgeq infer, which imports this module, writes nothing

        write_text(Path(json_path), text + "\n")


def given_options(names: Iterable[str]) -> set[str]:
    """Of the running command's parameters, those that the user gave."""
    asked = click.get_current_context().get_parameter_source
    return {name for name in names if asked(name) is click.core.ParameterSource.COMMANDLINE}
