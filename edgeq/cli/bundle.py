"""``edgeq bundle``: all that a board needs to run a model, in one place."""

from __future__ import annotations

from typing import Any

import click

from edgeq.bundling import bundle, write_c_array
from edgeq.cli.options import channels_option, crop_option, labels_option, make_overrides, normalize_option
from edgeq.report.files import bundle_lines

__all__ = ["command"]


@click.command("bundle")
@click.argument("model", metavar="MODEL")
@click.option(
    "--out", "-o", "target", required=True, metavar="DIR|ZIP", help="Where it goes: a folder, or a zip by its name."
)
@click.option(
    "--wheels",
    metavar="PLATFORM",
    help="Also put the packages in, for a board without network: its system and Python, such as linux_aarch64-cp311.",
)
@click.option(
    "--c-array",
    is_flag=True,
    help="Instead write NAME.h and NAME.c into DIR, for microcontrollers, which have no files.",
)
@crop_option
@channels_option
@normalize_option
@labels_option
def command(model: str, target: str, wheels: str | None, c_array: bool, **about_model: Any) -> None:
    """Put a model and all that runs it into one folder or zip, for a board that need not have edgeq.

    It holds the model, its labels, a run.py that needs only Python, NumPy, Pillow and a TFLite runtime, requirements
    with the versions that fit each Python, a self-test with the output that the reference kernels give on every
    machine, and an example of a systemd unit. The self-test is run here before anything is written.

    \b
    Examples:
      edgeq bundle m.tflite -o birds.zip
      edgeq bundle m.tflite -o birds --wheels linux_aarch64-cp311
      edgeq bundle theirs.tflite -o birds --normalize 0..1 --labels labels.txt
      edgeq bundle m.tflite -o firmware/model --c-array

    \b
    Then, on the board:
      python3 -m venv venv && venv/bin/python -m pip install -r requirements.txt
      venv/bin/python run.py photo.jpg
    """
    overrides = make_overrides(**about_model)
    if c_array:
        if wheels or target.lower().endswith(".zip"):
            raise click.UsageError("--c-array goes into a folder, and needs no --wheels")
        for path in write_c_array(model, target, overrides):
            click.echo(path)
        return
    click.echo("\n".join(bundle_lines(bundle(model, target, wheels=wheels, overrides=overrides))))
