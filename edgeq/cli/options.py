"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeq.preprocessing import parse_normalization
from edgeq.runtime import RUNTIMES
from edgeq.tflite.metadata import Overrides, read_labels

__all__ = [
    "calibration_count_option",
    "channels_option",
    "crop_option",
    "labels_option",
    "make_overrides",
    "model_options",
    "normalize_option",
    "on_option",
    "runtime_option",
    "runtimes_option",
]

F = TypeVar("F", bound=Callable[..., Any])

normalize_option = click.option(
    "--normalize",
    metavar="RANGE",
    help="What pixel values become: -1..1, 0..1, 0..255, imagenet (torchvision's mean and std) or MEAN/STD in "
    "pixel values, such as 127.5/127.5. Needed only where the model does not say.",
)
crop_option = click.option(
    "--crop",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="SHARE",
    help="Share of the picture that the centre crop keeps. Default: what the model says, else 0.875, or 1 for "
    "inputs below 128 pixels.",
)
labels_option = click.option(
    "--labels",
    metavar="FILE|DIR",
    help="Names of the classes: a text file, one per line, or a folder whose sub-folders' names they are.",
)
channels_option = click.option(
    "--channels",
    type=click.Choice(["RGB", "BGR"]),
    help="Order of colours that the model takes, if it is not RGB.",
)
on_option = click.option(
    "--on",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Do it on a device, [user@]host[:port], over SSH; see edgeq device. Given several times: on all side by side.",
)
runtimes_option = click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(["auto", *RUNTIMES]),
    help="What runs the models. Given several times with one MODEL: compare these runtimes. Default: the environment's "
    "EDGEQ_RUNTIME, else the fastest that is installed.",
)
runtime_option = click.option(
    "--runtime",
    type=click.Choice(["auto", *RUNTIMES]),
    help="What runs the model. Default: the environment's EDGEQ_RUNTIME, else the fastest that is installed.",
)


def model_options(command: F) -> F:
    """What the user may know better than the file, see `make_overrides`: --labels, --normalize, --channels, --crop."""
    for option in (crop_option, channels_option, normalize_option, labels_option):
        command = option(command)
    return command


def calibration_count_option(minimum: int) -> Callable[[F], F]:
    """--calib-count, how many of the calibration photos to take."""
    kind = click.IntRange(minimum)
    return click.option("--calib-count", type=kind, default=100, show_default=True, help="How many of them.")


def make_overrides(labels: str | None, normalize: str | None, channels: str | None, crop: float | None) -> Overrides:
    """What the user knows better than the file, from the options of `model_options`."""
    return Overrides(
        normalization=parse_normalization(normalize) if normalize else None,
        channels=channels,
        crop=crop,
        labels=read_labels(labels) if labels else None,
    )
