"""``edgeq convert``: from a float network to verified .tflite files."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgeq.calibration import MINIMUM_IMAGES
from edgeq.cli.architecture import BUILDING, architecture_options, chosen_output_stride, res_option
from edgeq.cli.options import calibration_count_option, channels_option, crop_option, labels_option, normalize_option
from edgeq.cli.output import refuse_given
from edgeq.cli.progress import Progress
from edgeq.conversion import FORMATS, IO_TYPES, convert
from edgeq.errors import EXIT_GATE_MISSED
from edgeq.networks import Network, build_network
from edgeq.report.files import conversion_lines

__all__ = ["command"]

_CALIBRATING = {"calib": "--calib", "calib_count": "--calib-count"}


def _format_options(command: Any) -> Any:
    for name, form in reversed(FORMATS.items()):
        command = click.option(f"--{name}", f"format_{name}", is_flag=True, help=f"Write {form.description}.")(command)
    return command


@click.command("convert")
@click.argument("source", required=False)
@_format_options
@click.option(
    "--io",
    type=click.Choice(IO_TYPES),
    default="int8",
    show_default=True,
    help="Type of the INT8 model's input and output.",
)
@click.option(
    "--logits",
    is_flag=True,
    help="Leave out the softmax at the end, as in INT8 it gives steps of 1/256; edgeq computes it after the model.",
)
@click.option(
    "--no-refine",
    is_flag=True,
    help="Leave the INT8 model as the converter made it. By default its rounding, ranges and biases are corrected so "
    "that it agrees better with FP32, at no cost in size or speed.",
)
@res_option("224, or SOURCE's own")
@architecture_options
@click.option("--classes", type=click.IntRange(2), help="Number of classes. Default: what the weights have, else 1000.")
@click.option(
    "--weights",
    default="auto",
    show_default=True,
    metavar="auto|imagenet|bundled|none|PATH",
    help="imagenet: from Keras's cache or download. bundled: of the small network that comes with edgeq. auto: "
    "imagenet, else bundled, saying so. none: random. Or a Keras weights file.",
)
@click.option(
    "--calib",
    metavar="DIR",
    help="Photos to calibrate on, searched recursively; best are photos like those "
    "the model will see. Default: the images that come with edgeq.",
)
@calibration_count_option(MINIMUM_IMAGES)
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=0,
    show_default=True,
    help="Of the choice of photos, and of random weights.",
)
@click.option("--out", default="models", show_default=True, metavar="DIR", help="Where the files go.")
@click.option(
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Where the files are to run, see edgeq inspect: what is not supported there is avoided where possible, and "
    "the rest is reported. May be given several times.",
)
@labels_option
@normalize_option
@channels_option
@crop_option
@click.option("--verbose", is_flag=True, help="Show what TensorFlow prints.")
def command(
    source: str | None,
    io: str,
    logits: bool,
    no_refine: bool,
    size: tuple[int, int] | None,
    calib: str | None,
    calib_count: int,
    seed: int,
    out: str,
    targets: tuple[str, ...],
    labels: str | None,
    normalize: str | None,
    channels: str | None,
    crop: float | None,
    verbose: bool,
    **others: Any,
) -> None:
    """Convert a float network to TFLite, quantize it, and verify the result in the runtime.

    Without SOURCE, builds a MobileNet. SOURCE is an image classifier of your own: a Keras model (.keras, or
    .h5, also of Keras 2) or a SavedModel folder; one that `edgeq train` made brings labels and preprocessing.
    The float32 reference is always written beside the formats asked for. Labels, preprocessing and provenance
    travel inside the files. Files that exist are replaced only when everything has succeeded.

    \b
    Examples:
      edgeq convert --res 160 --int8
      edgeq convert --res 160x120 --alpha 0.35 --int8 --calib photos/
      edgeq convert --network mobilenet_v3_small --int8 --calib photos/
      edgeq convert --res 32 --weights bundled --int8
      edgeq convert --res 160 --dynamic --target tflite-runtime==2.14
      edgeq convert my_model.keras --int8 --calib photos/ --normalize 0..1 --labels photos/
      edgeq convert my_model.h5 --int8 --io uint8 --fp16 --out build/ --normalize -1..1
    """
    formats = [name for name in FORMATS if others.pop(f"format_{name}")]
    _require_meaning(source, formats, io, no_refine)

    def build() -> Network:
        height, width = size or (224, 224)
        stride = chosen_output_stride(others.pop("output_stride"), height, width)
        return build_network(height=height, width=width, output_stride=stride, seed=seed, **others)

    with Progress() as progress:
        made = convert(
            build if source is None else source,
            formats,
            out,
            calibration=calib,
            count=calib_count,
            seed=seed,
            size=size,
            normalize=normalize,
            channels=channels,
            crop=crop,
            labels=labels or (),
            io=io,
            logits=logits,
            refine=not no_refine,
            targets=targets,
            verbose=verbose,
            progress=progress,
        )
    click.echo("\n".join(conversion_lines(made)))
    if made.has_obstacles:
        sys.exit(EXIT_GATE_MISSED)


def _require_meaning(source: str | None, formats: list[str], io: str, no_refine: bool) -> None:
    """Complain of options that would silently do nothing."""
    if not any(FORMATS[name].calibrated for name in formats):
        refuse_given(_CALIBRATING, "only for --int8 and --int16x8")
    if source is not None:
        refuse_given(BUILDING | {"weights": "--weights"}, "only for networks that edgeq builds; SOURCE brings its own")
    if "int8" not in formats and (io != "int8" or no_refine):
        refuse_given({"io": "--io", "no_refine": "--no-refine"}, "only for --int8")
