"""``edgeq calibrate``: representative datasets for users who have none."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
import numpy as np

import edgeq
from edgeq.calibration import MINIMUM_IMAGES
from edgeq.calibration.image_folder import replacing_folder, write_images
from edgeq.calibration.statistics import statistics_distance
from edgeq.calibration.synthesis import DEFAULT_STEPS, synthesize
from edgeq.cli.architecture import res_option
from edgeq.cli.options import channels_option, crop_option, normalize_option
from edgeq.cli.progress import Progress
from edgeq.errors import ModelError
from edgeq.files import sha256_of_file
from edgeq.networks import open_network
from edgeq.preprocessing import Preprocessing, parse_normalization
from edgeq.quiet import quiet
from edgeq.tflite.metadata import Overrides

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
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    normalization = parse_normalization(normalize) if normalize else None
    _require_keras(source)
    with Progress() as progress, replacing_folder(out) as part:
        progress("Loading TensorFlow", 0, 1)
        with quiet(verbose):
            network = open_network(source, size)
            preprocessing = network.preprocessing_with(Overrides(normalization, channels, crop), source)
            model = network.keeps_alive
            images = synthesize(model, preprocessing, count, seed, steps, progress, source)
            distance = statistics_distance(model, preprocessing, images, source)
        write_images(part, images, _origin(source, preprocessing, count, seed, steps, distance))
    click.echo(f"{out}: {count} images of {network.width}x{network.height} {preprocessing.channels}")
    click.echo(f"Their statistics are {distance:.2f} standard deviations from those that {Path(source).name} keeps.")


def _require_keras(source: str) -> None:
    """Complain of models whose BatchNormalization cannot be seen, before TensorFlow takes its seconds to load."""
    path = Path(source)
    if (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{source}: a SavedModel does not show its BatchNormalization; give the Keras model that it was made from"
        )
    if path.is_file() and path.suffix.lower() == ".tflite":
        raise ModelError(
            f"{source}: is a TFLite model, whose BatchNormalization is folded into its weights; give the Keras model "
            "that it was made from"
        )


def _origin(
    source: str, preprocessing: Preprocessing, count: int, seed: int, steps: int, distance: float
) -> dict[str, Any]:
    """What each image says of how it was made, without times or paths, so that the same inputs give the same bytes."""
    import keras
    import tensorflow as tf

    return {
        "synthesized_from": {"file": Path(source).name, "sha256": sha256_of_file(source)},
        "count": count,
        "seed": seed,
        "steps": steps,
        "statistics_distance": round(distance, 4),
        "preprocessing": preprocessing.to_json(),
        "tools": {
            "edgeq": edgeq.__version__,
            "tensorflow": tf.__version__,
            "keras": keras.__version__,
            "numpy": np.__version__,
        },
    }
