"""``edgeq calibrate``: synthesize calibration images."""

from __future__ import annotations

from typing import Any

import click

from edgeq.calibration import MINIMUM_IMAGES, synthesize_calibration
from edgeq.calibration.synthesis import DEFAULT_STEPS
from edgeq.cli.architecture import res_option
from edgeq.cli.help import Command, option
from edgeq.cli.options import channels_option, crop_option, normalize_option, seed_option, verbose_option
from edgeq.cli.progress import Progress
from edgeq.cli.temporary import own_temporary_folder
from edgeq.report.files import synthetic_set_lines

__all__ = ["command"]


@click.group("calibrate")
def command() -> None:
    """Synthesize calibration images from a network.

    Use it if you have no photos like those that the model will see. For everyday photos, edgeq convert without --calib
    is enough: it uses bundled images. Calibration itself is part of edgeq convert and edgeq refine.

    \b
    Examples:
      $ edgeq calibrate synthesize my.keras --out images/ --normalize 0..1
      $ edgeq convert my.keras --int8 --calib images/ --normalize 0..1
      $ edgeq calibrate synthesize --help
    """


@command.command("synthesize", cls=Command)
@click.argument("source", metavar="MODEL")
@option(
    "Images",
    "--count",
    type=click.IntRange(MINIMUM_IMAGES),
    default=100,
    help="Number of images to synthesize.",
)
@option(
    "Images",
    "--steps",
    type=click.IntRange(1),
    default=DEFAULT_STEPS,
    help="Number of optimizer steps. The time is proportional to it.",
)
@seed_option("Images", "the initial noise")
@res_option("MODEL's own")
@normalize_option
@channels_option
@crop_option
@option(
    "Output",
    "--out",
    required=True,
    metavar="DIR",
    help="Folder for the images. An earlier synthesized set in it is replaced.",
)
@verbose_option
@own_temporary_folder()
def synthesize_command(source: str, out: str, **options: Any) -> None:
    """Synthesize calibration images from a network's stored statistics.

    Use it if you have no suitable photos for `edgeq convert --calib`. MODEL is a Keras model (.keras or .h5,
    including Keras 2) with BatchNormalization layers. These store the mean and variance that their inputs had during
    training. As in ZeroQ (arXiv 2001.00281), edgeq optimizes noise until it produces the same statistics in each layer.

    The images are PNG files of the network's input size. Give `edgeq convert` the same --normalize, --channels and
    --crop. The same model, options and machine give identical files.

    \b
    Examples:
      $ edgeq calibrate synthesize my.keras --out images/ --normalize 0..1
      $ edgeq calibrate synthesize a.h5 --out images/ --count 50 --normalize 0..1
      $ edgeq convert my.keras --int8 --calib images/ --normalize 0..1
    """
    with Progress() as progress:
        made = synthesize_calibration(source, out, **options, progress=progress)
    click.echo("\n".join(synthetic_set_lines(made)))
