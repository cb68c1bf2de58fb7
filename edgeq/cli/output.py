"""Output that all commands share: errors, results and JSON."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import click

__all__ = ["complain", "given_options", "refuse_given", "show"]


def complain(message: object, word: str = "Error") -> None:
    """Print an error on stderr, in one line that begins with `word`, red on a terminal."""
    click.echo(f"{click.style(word, fg='red')}: {message}", err=True)


def show(lines: Iterable[str], document: dict[str, Any], json_path: str | None) -> None:
    """Print a result, and write it as JSON if a path is given; - prints only the JSON."""
    text = json.dumps(document, indent=1)
    if json_path == "-":
        click.echo(text)
        return
    for line in lines:
        click.echo(line)
    if json_path is not None:  # last: the result is printed even if the file cannot be written
        from edgeq.files import write_text  # edgeq infer, which imports this module, writes nothing

        write_text(Path(json_path), text + "\n")


def given_options(names: Iterable[str]) -> set[str]:
    """Those of the given parameters of the running command that the user set on the command line."""
    asked = click.get_current_context().get_parameter_source
    return {name for name in names if asked(name) is click.core.ParameterSource.COMMANDLINE}


def refuse_given(options: Mapping[str, str], reason: str) -> None:
    """Raise an error if the user gave one of these options.

    Args:
        options: parameters of the running command, mapped to their names on the command line.
        reason: why they do not apply.

    Raises:
        click.UsageError: at least one was given.
    """
    given = sorted(options[name] for name in given_options(options))
    if given:
        raise click.UsageError(f"{', '.join(given)}: {reason}")
