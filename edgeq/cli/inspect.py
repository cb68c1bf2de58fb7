"""``edgeq inspect``: what is inside a .tflite file, and where it would not run."""

from __future__ import annotations

import sys

import click

from edgeq.cli.output import show
from edgeq.errors import EXIT_GATE_MISSED
from edgeq.inspection import TARGETS, inspect
from edgeq.report.inspection import inspection_lines

__all__ = ["command"]


@click.command("inspect")
@click.argument("model", metavar="MODEL")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help=f"Also say what would not run there: {', '.join(TARGETS)}, or a runtime's version such as "
    "tflite-runtime==2.14. May be given several times.",
)
@click.option("--json", "json_path", metavar="FILE", help="Also write everything found as JSON; - prints that alone.")
def command(model: str, targets: tuple[str, ...], json_path: str | None) -> None:
    """Show what is inside a .tflite file, and what of it would not run on a target.

    Inputs and outputs with the real numbers that their integers stand for, operators with versions, types,
    parameters and multiply-adds, memory for activations, and the labels, preprocessing and origin that the file
    carries. It looks at the file and runs nothing.

    A target is judged by a table, whose source is printed, or for ethos-u by Arm's own compiler (pip install
    'edgeq[ethos-u]'). A table knows no more than it says: what counts is the model run on the device.

    \b
    Examples:
      edgeq inspect m.tflite
      edgeq inspect m.tflite --target tflite-runtime==2.14
      edgeq inspect m.tflite --target edgetpu --target tflm
      edgeq inspect m.tflite --json - | jq .multiply_adds

    With --target it exits with 0 if nothing is known against any of them, 1 if something is, 2 on errors.
    """
    inspection = inspect(model, targets)
    show(inspection_lines(inspection), inspection.to_json(), json_path)
    if any(report.obstacles for report in inspection.targets):
        sys.exit(EXIT_GATE_MISSED)
