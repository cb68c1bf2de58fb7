"""Output that all commands share: errors, results and JSON."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Collection, Iterable
from pathlib import Path
from typing import Any

import click

__all__ = ["complain", "discard_output", "given_options", "refuse_given", "show"]

_SET = click.core.ParameterSource.COMMANDLINE


def complain(message: object, word: str = "Error") -> None:
    """Print an error on stderr as one line that begins with `word`, in red on a terminal."""
    click.echo(f"{click.style(word, fg='red')}: {message}", err=True)


def show(lines: Iterable[str], document: dict[str, Any], json_path: str | None) -> None:
    """Print a result, and write it as JSON if a path is given. The path - prints only the JSON."""
    text = json.dumps(document, indent=1)
    if json_path == "-":
        click.echo(text)
        return
    try:
        for line in lines:
            click.echo(line)
    except BrokenPipeError:  # the files that follow, and the exit code, matter even if nobody reads on
        discard_output()
    if json_path is not None:  # last: the result is printed even if the file cannot be written
        from edgeq.files import write_text  # edgeq infer, which imports this module, writes nothing

        write_text(Path(json_path), text + "\n")


def discard_output() -> None:
    """Discard what is printed from now on: the reader has closed the pipe, as in ``edgeq infer photos/ | head``.

    Python flushes stdout again at exit, which would print an error.
    """
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def given_options(names: Collection[str]) -> str:
    """List those of the running command's parameters `names` that the user set, by their option names."""
    context = click.get_current_context()
    given = (p for p in context.command.params if p.name in names and context.get_parameter_source(p.name) is _SET)
    return ", ".join(sorted(parameter.opts[0] for parameter in given))


def refuse_given(names: Collection[str], reason: str) -> None:
    """Raise an error if the user gave one of these parameters of the running command.

    Args:
        names: names of the parameters.
        reason: why they do not apply.

    Raises:
        click.UsageError: at least one was given.
    """
    if given := given_options(names):
        raise click.UsageError(f"{given}: {reason}")
