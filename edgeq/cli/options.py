"""Options that several commands share."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeq.cli.help import option, together
from edgeq.preprocessing import parse_normalization
from edgeq.runtime import KERNELS, RUNTIMES
from edgeq.runtime.admission import trusting
from edgeq.tflite.metadata import Overrides, read_labels
from edgeq.tflite.task import TASKS

__all__ = [
    "FiniteRange",
    "calibration_options",
    "channels_option",
    "crop_option",
    "json_option",
    "kernels_option",
    "labels_option",
    "make_overrides",
    "model_options",
    "normalize_option",
    "on_option",
    "runtime_option",
    "runtimes_option",
    "scheduler_option",
    "seed_option",
    "task_option",
    "trust_option",
    "verbose_option",
]

F = TypeVar("F", bound=Callable[..., Any])


class FiniteRange(click.FloatRange):
    """A range of numbers without NaN, which no comparison would reject, and infinity."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Convert a value, or fail with a message that names it."""
        number = float(super().convert(value, param, ctx))
        if not math.isfinite(number):
            self.fail(f"{value} is not a finite number", param, ctx)
        return number


_ABOUT_MODEL = "Preprocessing and labels"
_CALIBRATION = "Calibration"


def _runtime_option(*declarations: str, more: str = "", **settings: Any) -> Callable[[F], F]:
    return option(
        "Runtime",
        "--runtime",
        *declarations,
        type=click.Choice(["auto", *RUNTIMES]),
        metavar="NAME",
        show_default="the environment variable EDGEQ_RUNTIME, else auto",
        help=f"TFLite runtime: auto (the fastest one installed), {', '.join(RUNTIMES)}.{more}",
        **settings,
    )


normalize_option = option(
    _ABOUT_MODEL,
    "--normalize",
    metavar="RANGE",
    help="Normalization of the model's input: -1..1, 0..1, 0..255, imagenet (torchvision's mean and standard "
    "deviation) or MEAN/STD in pixel values, such as 127.5/127.5. Required if the file does not contain it.",
)
crop_option = option(
    _ABOUT_MODEL,
    "--crop",
    type=FiniteRange(0, 1, min_open=True),
    metavar="FRACTION",
    show_default="that of the model, else 0.875, or 1 for inputs below 128 pixels",
    help="Fraction of the image's sides that the center crop keeps.",
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
    show_default="that of the model, else RGB",
    help="Color channel order that the model expects.",
)
on_option = option(
    "Device",
    "--on",
    "hosts",
    multiple=True,
    metavar="HOST",
    help="Run on a board over SSH: [user@]host[:port]. Repeat the option to run on several boards in parallel. See "
    "edgeq device.",
)
scheduler_option = option(
    "Cluster",
    "--scheduler",
    metavar="URL",
    envvar="DASK_SCHEDULER_ADDRESS",
    show_default="the environment variable DASK_SCHEDULER_ADDRESS, else this machine",
    help="Run on the workers of a Dask cluster, such as tcp://10.0.0.5:8786. The result is the same.",
)
runtimes_option = _runtime_option(
    "runtimes", multiple=True, more=" With one MODEL, repeat the option to compare runtimes."
)
runtime_option = _runtime_option()
json_option = option(
    "Output",
    "--json",
    "json_path",
    metavar="FILE",
    help="Also write the result to FILE as JSON. If FILE is -, print only the JSON.",
)
task_option = option(
    "Input",
    "--task",
    type=click.Choice(TASKS),
    show_default="that of the model; tensors for .npz files",
    help="What the model's outputs are: the classes of an image, or plain tensors, which edgeq does not interpret.",
)
kernels_option = option(
    "Runtime",
    "--kernels",
    type=click.Choice(KERNELS),
    default=KERNELS[0],
    metavar="NAME",
    help="default (XNNPACK, if the runtime uses it), built-in (the runtime's own kernels), or reference (slow; integer "
    "outputs are bit-identical on every machine).",
)
trust_option = option(
    "Input",
    "--trust",
    is_flag=True,
    expose_value=False,
    callback=lambda ctx, param, trust: ctx.with_resource(trusting(trust)),
    help="Open a model that was never opened on this machine without a first trial in a separate process, and accept "
    "unknown custom operators. Only for files whose origin you know.",
)
verbose_option = option("Output", "--verbose", is_flag=True, help="Show TensorFlow's own messages.")


model_options = together(labels_option, normalize_option, channels_option, crop_option)
"""Options for models whose files lack this information."""


def seed_option(group: str, seeds: str, largest: int | None = None) -> Callable[[F], F]:
    """Return --seed, whose help names what it seeds."""
    return option(group, "--seed", type=click.IntRange(0, largest), default=0, help=f"Random seed for {seeds}.")


def calibration_options(minimum: int, seeds: str, but: str = "") -> Callable[[F], F]:
    """Return --calib, --calib-count and --seed, which select calibration images.

    Args:
        minimum: smallest number of images.
        seeds: purpose of --seed, for its help.
        but: clause for the help of --calib that names photos to avoid.
    """
    return together(
        option(
            _CALIBRATION,
            "--calib",
            metavar="DIR|NPZ",
            show_default="the bundled images",
            help="Folder of calibration images, searched recursively. Use photos like those that the model will see"
            f"{but}. For a model that is no image classifier: a folder of .npz files, or one file.",
        ),
        option(
            _CALIBRATION,
            "--calib-count",
            type=click.IntRange(minimum),
            default=100,
            help="Number of calibration images to use.",
        ),
        seed_option(_CALIBRATION, seeds),
    )


def make_overrides(labels: str | None, normalize: str | None, channels: str | None, crop: float | None) -> Overrides:
    """Turn the options of `model_options` into overrides, which take precedence over the file's metadata."""
    return Overrides(
        normalization=parse_normalization(normalize) if normalize else None,
        channels=channels,
        crop=crop,
        labels=read_labels(labels) if labels else None,
    )
