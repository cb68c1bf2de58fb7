"""``edgeq inspect``: show what a .tflite file contains and where it can run."""

from __future__ import annotations

import sys

import click

from edgeq.cli.help import Command, option
from edgeq.cli.options import json_option
from edgeq.cli.output import show
from edgeq.errors import EXIT_GATE_MISSED
from edgeq.inspection import TARGETS, inspect
from edgeq.report.inspection import inspection_lines

__all__ = ["command"]


@click.command("inspect", cls=Command)
@click.argument("model", metavar="MODEL")
@option(
    "Targets",
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help=f"Also list what this target does not support: {', '.join(TARGETS)}. A runtime may have a version, such as "
    "tflite-runtime==2.14. Repeat the option for several targets.",
)
@json_option
def command(model: str, targets: tuple[str, ...], json_path: str | None) -> None:
    """Show what a .tflite file contains and which targets support it.

    Use it on any .tflite file before you deploy it. It shows inputs and outputs with their real ranges, operators
    with versions, types, parameters and multiply-adds, memory for activations, labels, preprocessing and provenance.
    It reads the file and does not run it.

    edgeq checks a target against a table and prints the source of the table. For ethos-u it runs Arm's compiler (pip
    install 'edgeq[ethos-u]'). The tables are not complete, so also test on the device itself. Exit codes: 0 if no
    problem is known, 1 if a target does not support the file, 2 on errors.

    \b
    Examples:
      $ edgeq inspect m.tflite
      m.tflite  4.04 MB  sha256 4f681905483c4b0b
      ...
      operator           version  type  count  parameters  mult-adds
      CONV_2D            3        int8  35     2,135,456   278.8 M
      ...
      $ edgeq inspect m.tflite --target tflite-runtime==2.14
      ...
      tflite-runtime==2.14: the runtime does not load the file, because of
        FULLY_CONNECTED: is of version 12; ...
      $ edgeq inspect m.tflite --target edgetpu --target tflm
      $ edgeq inspect m.tflite --json - | jq .multiply_adds
    """
    inspection = inspect(model, targets)
    show(inspection_lines(inspection), inspection.to_json(), json_path)
    if any(report.obstacles for report in inspection.targets):
        sys.exit(EXIT_GATE_MISSED)
