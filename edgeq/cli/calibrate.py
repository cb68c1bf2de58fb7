"""``edgeq calibrate``: representative datasets for users who have none."""

from __future__ import annotations

import click

from edgeq.calibration import MINIMUM_IMAGES, synthesize_calibration
from edgeq.calibration.synthesis import DEFAULT_STEPS
from edgeq.cli.architecture import res_option
from edgeq.cli.options import channels_option, crop_option, normalize_option
from edgeq.cli.progress import Progress
from edgeq.report.files import synthetic_set_lines

__all__ = ["command"]


@click.group("calibrate")
def command() -> None:
    """Make images to calibrate on, for a network whose photos you do not have.

    \b
    Examples:
      edgeq calibrate synthesize my_model.keras --out synthesized/ --normalize 0..1
      edgeq convert my_model.keras --int8 --calib synthesized/ --normalize 0..1
      edgeq calibrate synthesize --help
    """


@command.command("synthesize")
@click.argument("source", metavar="MODEL")
@click.option("--out", required=True, metavar="DIR", help="Folder for the images; an earlier set in it is replaced.")
@click.option("--count", type=click.IntRange(MINIMUM_IMAGES), default=100, show_default=True, help="How many images.")
@click.option(
    "--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the noise that the images begin as."
)
@click.option(
    "--steps",
    type=click.IntRange(1),
    default=DEFAULT_STEPS,
    show_default=True,
    help="Steps of the optimizer; time goes with them.",
)
@res_option("MODEL's own")
@normalize_option
@channels_option
@crop_option
@click.option("--verbose", is_flag=True, help="Show what TensorFlow prints.")
def synthesize_command(
    source: str,
    out: str,
    count: int,
    seed: int,
    steps: int,
    size: tuple[int, int] | None,
    normalize: str | None,
    channels: str | None,
    crop: float | None,
    verbose: bool,
) -> None:
    """Make a representative dataset from what a network itself remembers of its photos.

    MODEL is a Keras model (.keras, or .h5, also of Keras 2) with BatchNormalization, which keeps the mean and
    variance of what it saw in training. Noise is changed until it causes the same, as in ZeroQ (arXiv
    2001.00281). The images are PNG files of the network's input size, for `edgeq convert --calib` with the same
    --normalize, --channels and --crop. On one machine, the same model and options give the same files.

    \b
    Examples:
      edgeq calibrate synthesize my_model.keras --out synthesized/ --normalize 0..1
      edgeq calibrate synthesize my_model.h5 --out synthesized/ --count 50 --steps 30 --normalize -1..1
      edgeq convert my_model.keras --int8 --calib synthesized/ --normalize 0..1
    """
    with Progress() as progress:
        made = synthesize_calibration(
            source,
            out,
            count=count,
            seed=seed,
            steps=steps,
            size=size,
            normalize=normalize,
            channels=channels,
            crop=crop,
            verbose=verbose,
            progress=progress,
        )
    click.echo("\n".join(synthetic_set_lines(made)))
