"""``edgeq convert``: convert a float network to TFLite files."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgeq.calibration import MINIMUM_IMAGES
from edgeq.cli.architecture import BUILDING, DEFAULT_SIZE, architecture_options, chosen_output_stride, res_option
from edgeq.cli.help import Command, option, together
from edgeq.cli.options import FiniteRange, calibration_options, model_options, task_option, trust_option, verbose_option
from edgeq.cli.output import refuse_given
from edgeq.cli.progress import Progress
from edgeq.cli.temporary import own_temporary_folder
from edgeq.conversion import FORMATS, IO_TYPES, convert
from edgeq.errors import EXIT_GATE_MISSED
from edgeq.networks import Network, build_network
from edgeq.report.files import conversion_lines

__all__ = ["command"]

_CALIBRATING = ("calib", "calib_count")
_BUILDING = (*BUILDING, "weights")


_FORMAT_HELP = {
    "fp32": "Write float32. edgeq always writes this file, which is the reference.",
    "int8": "Write full-integer INT8: weights, activations, input and output.",
    "fp16": "Write float16 weights. The runtime computes in float32.",
    "dynamic": "Write 8-bit weights. The runtime quantizes activations on the fly.",
    "int16x8": "Write 16-bit activations and 8-bit weights.",
}


_format_options = together(
    *(option("Formats", f"--{name}", f"format_{name}", is_flag=True, help=_FORMAT_HELP[name]) for name in FORMATS)
)


@click.command("convert", cls=Command)
@click.argument("source", required=False)
@_format_options
@option(
    "Quantization",
    "--io",
    type=click.Choice(IO_TYPES),
    default="int8",
    help="Data type of the INT8 model's input and output.",
)
@option(
    "Quantization",
    "--logits",
    is_flag=True,
    help="Remove the final softmax, whose INT8 output has steps of 1/256. edgeq then computes the softmax in float.",
)
@option(
    "Quantization",
    "--no-refine",
    is_flag=True,
    help="Do not refine the INT8 model. By default edgeq corrects its weights, scales, ranges and biases, so that it "
    "agrees better with FP32 at the same size and speed.",
)
@option(
    "Quantization",
    "--keep-float",
    multiple=True,
    metavar="OPERATOR",
    help="Leave an operator of the INT8 model in float: its number or name from edgeq compare --layers. Repeat the "
    "option for several. auto: those where INT8 fails most, until --min-agreement is reached. unsupported: those that "
    "cannot be quantized.",
)
@option(
    "Quantization",
    "--min-agreement",
    type=FiniteRange(0, 1),
    default=0.99,
    metavar="FRACTION",
    help="For --keep-float auto: top-1 agreement with FP32 to reach on the held-out calibration images.",
)
@option(
    "Quantization",
    "--target",
    "targets",
    multiple=True,
    metavar="NAME",
    help="Runtime or hardware on which the files must run, see edgeq inspect. edgeq avoids unsupported operators where "
    "possible and reports the others. Repeat the option for several targets.",
)
@task_option
@trust_option
@calibration_options(MINIMUM_IMAGES, "the selection of calibration images and for random weights")
@res_option("224, or SOURCE's own")
@architecture_options
@option(
    "Network",
    "--classes",
    type=click.IntRange(2),
    show_default="that of the weights, else 1000",
    help="Number of classes.",
)
@option(
    "Network",
    "--weights",
    default="auto",
    metavar="NAME|FILE",
    help="imagenet (from Keras's cache or downloaded), bundled (a small network included in edgeq), auto (imagenet if "
    "available, else bundled), none (random weights), or a Keras weights file.",
)
@model_options
@option("Output", "--out", default="models", metavar="DIR", help="Folder for the .tflite files.")
@verbose_option
@own_temporary_folder()
def command(
    source: str | None,
    out: str,
    io: str,
    no_refine: bool,
    keep_float: tuple[str, ...],
    size: tuple[int, int] | None,
    calib: str | None,
    calib_count: int,
    seed: int,
    labels: str | None,
    **others: Any,
) -> None:
    """Convert a float network to TFLite and quantize it.

    Use it to make the files that run on a board. SOURCE is your own image classifier: a Keras model (.keras or .h5,
    including Keras 2), a SavedModel folder, a float .tflite file, a PyTorch program (.pt2) or an ONNX file. Without
    SOURCE, edgeq builds a MobileNet. A network from `edgeq train` contains its labels and preprocessing. For others,
    give --normalize and --labels.

    edgeq always writes the float32 reference too. It runs each file before it replaces an older one. If a --target
    does not support a file, the exit code is 1.

    \b
    Examples:
      $ edgeq convert --res 224 --int8 --calib photos/
      models/mobilenet_v2_1.0_224_fp32.tflite   14.00 MB  float32, the reference
      models/mobilenet_v2_1.0_224_int8.tflite    4.04 MB  full integer
      ...
      $ edgeq convert flowers.keras --int8 --calib photos/
      $ edgeq convert my_model.h5 --int8 --normalize 0..1 --labels labels.txt
      $ edgeq convert model.tflite --int8 --normalize imagenet --keep-float auto
      $ edgeq convert model.onnx --int8 --calib photos/ --normalize imagenet
      $ edgeq convert --network mobilenet_v3_small --res 160x120 --int8
      $ edgeq convert --dynamic --target tflite-runtime==2.14
      $ edgeq convert autoencoder_float32.tflite --int8 --calib samples/
    """
    formats = [name for name in FORMATS if others.pop(f"format_{name}")]
    building = {name: others.pop(name) for name in _BUILDING}
    _require_meaning(source, formats, keep_float)

    def build() -> Network:
        height, width = size or DEFAULT_SIZE
        building["output_stride"] = chosen_output_stride(building["output_stride"], height, width)
        return build_network(height=height, width=width, seed=seed, **building)

    with Progress() as progress:
        made = convert(
            build if source is None else source,
            formats,
            out,
            calibration=calib,
            count=calib_count,
            seed=seed,
            size=size,
            labels=labels or (),
            io=io,
            refine=not no_refine,
            keep_float=keep_float,
            progress=progress,
            **others,
        )
    click.echo("\n".join(conversion_lines(made)))
    if made.has_obstacles:
        sys.exit(EXIT_GATE_MISSED)


def _require_meaning(source: str | None, formats: list[str], keep_float: tuple[str, ...]) -> None:
    """Raise an error for options that would have no effect."""
    if not any(FORMATS[name].calibrated for name in formats):
        refuse_given(_CALIBRATING, "only for --int8 and --int16x8")
    if source is not None:
        refuse_given(_BUILDING, "only for networks that edgeq builds, not for SOURCE")
    if "int8" not in formats:
        refuse_given(("io", "no_refine", "keep_float"), "only for --int8")
    if "auto" not in keep_float:
        refuse_given(("min_agreement",), "only for --keep-float auto")
