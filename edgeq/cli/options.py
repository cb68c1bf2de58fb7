"""Options that several commands share."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeq.cli.help import option
from edgeq.preprocessing import parse_normalization
from edgeq.runtime import RUNTIMES
from edgeq.tflite.metadata import Overrides, read_labels

__all__ = [
    "calibration_count_option",
    "channels_option",
    "crop_option",
    "json_option",
    "labels_option",
    "make_overrides",
    "model_options",
    "normalize_option",
    "on_option",
    "runtime_option",
    "runtimes_option",
    "verbose_option",
]

F = TypeVar("F", bound=Callable[..., Any])

_ABOUT_MODEL = "Preprocessing and labels"
_CHOICES_OF_RUNTIME = f"auto (the fastest one installed), {', '.join(RUNTIMES)}"
_DEFAULT_RUNTIME = "the environment variable EDGEQ_RUNTIME, else auto"

normalize_option = option(
    _ABOUT_MODEL,
    "--normalize",
    metavar="RANGE",
    help="What the model expects pixel values to be normalized to: -1..1, 0..1, 0..255, imagenet (torchvision's mean "
    "and standard deviation) or MEAN/STD in pixel values, such as 127.5/127.5. Required if the model does not say.",
)
crop_option = option(
    _ABOUT_MODEL,
    "--crop",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="FRACTION",
    show_default="as the model says, else 0.875, or 1 for inputs below 128 pixels",
    help="Fraction of the image that the center crop keeps.",
)
labels_option = option(
    _ABOUT_MODEL,
    "--labels",
    metavar="FILE|DIR",
    help="Class names: a text file with one name per line, or a folder with one sub-folder per class.",
)
channels_option = option(
    _ABOUT_MODEL,
    "--channels",
    type=click.Choice(["RGB", "BGR"]),
    show_default="as the model says, else RGB",
    help="Color channel order that the model expects.",
)
on_option = option(
    "Device",
    "--on",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Run on a device over SSH: [user@]host[:port]. Repeat it for several devices, which then run in parallel. "
    "See edgeq device.",
)
runtimes_option = option(
    "Runtime",
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(["auto", *RUNTIMES]),
    metavar="NAME",
    show_default=_DEFAULT_RUNTIME,
    help=f"TFLite runtime: {_CHOICES_OF_RUNTIME}. With one MODEL, repeat it to compare runtimes.",
)
runtime_option = option(
    "Runtime",
    "--runtime",
    type=click.Choice(["auto", *RUNTIMES]),
    metavar="NAME",
    show_default=_DEFAULT_RUNTIME,
    help=f"TFLite runtime: {_CHOICES_OF_RUNTIME}.",
)
json_option = option(
    "Output",
    "--json",
    "json_path",
    metavar="FILE",
    help="Also write the result to FILE as JSON. With -, print only the JSON.",
)
verbose_option = option("Output", "--verbose", is_flag=True, help="Show TensorFlow's own messages.")


def model_options(command: F) -> F:
    """--labels, --normalize, --channels and --crop, which describe a model that does not describe itself."""
    for add_option in (crop_option, channels_option, normalize_option, labels_option):
        command = add_option(command)
    return command


def calibration_count_option(minimum: int) -> Callable[[F], F]:
    """--calib-count, the number of calibration images; at least `minimum`."""
    return option(
        "Calibration",
        "--calib-count",
        type=click.IntRange(minimum),
        default=100,
        metavar="N",
        help="Number of calibration images to use.",
    )


def make_overrides(labels: str | None, normalize: str | None, channels: str | None, crop: float | None) -> Overrides:
    """What the options of `model_options` say about a model; it takes precedence over the file's metadata."""
    return Overrides(
        normalization=parse_normalization(normalize) if normalize else None,
        channels=channels,
        crop=crop,
        labels=read_labels(labels) if labels else None,
    )
