"""``edgeq bundle``: pack a model with everything a board needs to run it."""

from __future__ import annotations

from typing import Any

import click

from edgeq.bundling import bundle, write_c_array
from edgeq.bundling.bundle import SERVICES
from edgeq.cli.help import Command, option
from edgeq.cli.options import make_overrides, model_options, task_option, trust_option
from edgeq.cli.output import refuse_given
from edgeq.report.files import bundle_lines
from edgeq.tflite.task import TENSORS, read_task

__all__ = ["command"]


@click.command("bundle", cls=Command)
@click.argument("model", metavar="MODEL")
@option(
    "Output",
    "--out",
    "-o",
    "target",
    required=True,
    metavar="DIR|ZIP",
    help="The bundle: a folder, or a zip file if the name ends in .zip.",
)
@option(
    "Contents",
    "--wheels",
    metavar="PLATFORM",
    help="Include the Python packages, for a board without a network. PLATFORM is the board's platform and Python "
    "version, such as linux_aarch64-cp311.",
)
@option(
    "Contents",
    "--service",
    type=click.Choice(SERVICES),
    default="photo",
    help="What the example of a systemd unit does: classify a photo at each start, or watch a Raspberry Pi's camera.",
)
@option(
    "Contents",
    "--c-array",
    is_flag=True,
    help="Write only the model, as NAME.h and NAME.c in DIR, for microcontrollers.",
)
@task_option
@trust_option
@model_options
def command(
    model: str, target: str, wheels: str | None, service: str, c_array: bool, task: str | None, **about_model: Any
) -> None:
    """Pack a model with everything that a board without edgeq needs.

    Use it to deploy a finished model. The bundle contains the model, its labels, a script run.py, requirements.txt,
    a self-test and an example of a systemd unit. The board needs Python, NumPy, Pillow and a TFLite runtime.

    The bundle stores the outputs of the reference kernels for three images. On the board, run.py --self-test checks
    that the reference kernels give the same outputs. edgeq runs this test on the host before it writes the bundle.

    \b
    Examples:
      $ edgeq bundle m.tflite -o classifier
      classifier  4.45 MB, 11 files; self-test passed on this machine
      $ edgeq bundle m.tflite -o classifier.zip --wheels linux_aarch64-cp311
      $ edgeq bundle other.tflite -o birds --normalize 0..1 --labels labels.txt
      $ edgeq bundle m.tflite -o door --service watch
      $ edgeq bundle m.tflite -o firmware/model --c-array

    \b
    Then, on the board:
      $ python3 -m venv venv && venv/bin/python -m pip install -r requirements.txt
      $ venv/bin/python run.py photo.jpg
    """
    overrides = make_overrides(**about_model)
    if c_array:
        refuse_given(["service"], "does not apply to --c-array")
        if wheels or target.lower().endswith(".zip"):
            raise click.UsageError("--c-array writes into a folder: give --out a folder, and omit --wheels")
        for path in write_c_array(model, target, overrides, task):
            click.echo(path)
        return
    if read_task(model, task) == TENSORS:
        raise click.UsageError("a model of plain tensors can only be written with --c-array")
    click.echo("\n".join(bundle_lines(bundle(model, target, wheels=wheels, service=service, overrides=overrides))))
