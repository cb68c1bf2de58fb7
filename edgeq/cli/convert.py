"""``edgeq convert``: from a float network to verified .tflite files."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from edgeq.calibration import MINIMUM_IMAGES, CalibrationSet, choose_images, shipped_images
from edgeq.cli.architecture import architecture_options, chosen_output_stride, res_option
from edgeq.cli.options import calibration_count_option, channels_option, crop_option, labels_option, normalize_option
from edgeq.cli.output import given_options, list_skipped
from edgeq.cli.progress import Progress
from edgeq.conversion import FORMATS, IO_TYPES, ConvertedModel, convert
from edgeq.errors import EXIT_GATE_MISSED, InputError
from edgeq.images import require_folder
from edgeq.inspection import check_target, require_target
from edgeq.networks import Network, build_network, open_network
from edgeq.preprocessing import Preprocessing, parse_normalization
from edgeq.quiet import quiet
from edgeq.report import refinement_line
from edgeq.report import size as readable_size
from edgeq.report.inspection import target_lines
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import Overrides, read_labels

__all__ = ["command"]

_CALIBRATION = {"calib", "calib_count"}
_BUILDING = {"family", "alpha", "output_stride", "head", "classes", "weights"}
_OPTION_OF = {name: f"--{name.replace('_', '-')}" for name in _CALIBRATION | _BUILDING} | {"family": "--network"}


def _listed(names: set[str]) -> str:
    return ", ".join(sorted(_OPTION_OF[name] for name in names))


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
    help="What the files are to run on, see edgeq inspect: what that refuses is avoided where possible, and what is "
    "left is told. May be given several times.",
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
    family: str,
    alpha: float | None,
    output_stride: str | None,
    head: int | None,
    classes: int | None,
    weights: str,
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
    **format_flags: bool,
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
    formats = [name for name in FORMATS if format_flags[f"format_{name}"]]
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    calibrated = any(FORMATS[name].calibrated for name in formats)
    # What can be wrong is found before TensorFlow takes its seconds to load.
    given = given_options(_OPTION_OF)
    if given & _CALIBRATION and not calibrated:
        raise click.UsageError(f"{_listed(given & _CALIBRATION)}: only for --int8 and --int16x8")
    if given & _BUILDING and source is not None:
        raise click.UsageError(
            f"{_listed(given & _BUILDING)}: only for networks that edgeq builds; SOURCE brings its own"
        )
    for option, is_given in (("--io", io != "int8"), ("--no-refine", no_refine)):
        if is_given and "int8" not in formats:
            raise click.UsageError(f"{option} is for --int8")
    for target in targets:
        require_target(target)
    normalization = parse_normalization(normalize) if normalize else None
    calibration_folder = Path(calib) if calib is not None else shipped_images()
    if calibrated:
        require_folder(calibration_folder)
    names = read_labels(labels) if labels else ()
    with Progress() as progress:
        progress("Loading TensorFlow", 0, 1)
        with quiet(verbose):
            if source is None:
                height, width = size or (224, 224)
                network = build_network(
                    family,
                    height,
                    width,
                    alpha=alpha,
                    classes=classes,
                    output_stride=chosen_output_stride(output_stride, height, width),
                    head=head,
                    weights=weights,
                    seed=seed,
                )
            else:
                network = open_network(source, size)
        if names and len(names) != network.classes:
            raise InputError(f"{labels}: has {len(names)} labels, but {network.name} has {network.classes} classes")
        preprocessing = network.preprocessing_with(Overrides(normalization, channels, crop), source)
        calibration = None
        if calibrated:
            calibration = choose_images(
                calibration_folder, preprocessing, calib_count, seed, progress, network.held_out
            )
        models = convert(
            network,
            preprocessing,
            formats,
            out,
            calibration=calibration,
            io=io,
            labels=names,
            logits=logits,
            refined=not no_refine,
            runs_on=targets,
            progress=progress,
            silence=lambda: quiet(verbose),
        )
    _print(models, network, preprocessing, calibration, names or network.labels)
    _check_targets(models, targets)


def _print(
    models: list[ConvertedModel],
    network: Network,
    preprocessing: Preprocessing,
    calibration: CalibrationSet | None,
    labels: tuple[str, ...],
) -> None:
    width = max(len(str(model.path)) for model in models)
    for model in models:
        click.echo(
            f"{model.path!s:<{width}}  {readable_size(model.size_bytes):>9}  {FORMATS[model.format].description}"
        )
    low, high = preprocessing.real_range
    click.echo(
        f"Takes {preprocessing.width}x{preprocessing.height} {preprocessing.channels}, pixels normalized to "
        f"{low:.4g}..{high:.4g}."
    )
    for remark in network.remarks:
        click.echo(remark)
    if calibration is not None:
        where = calibration.folder if calibration.folder != shipped_images() else "the set that comes with edgeq"
        click.echo(f"Calibrated on {len(calibration.files)} images of {where} (seed {calibration.seed}).")
        list_skipped(calibration.skipped)
    for model in models:
        if model.refinement is not None:
            click.echo(refinement_line(model.refinement))
        if model.remark:
            click.echo(f"{model.path.name}: {model.remark}.")
    if not labels:
        click.echo(f"No labels: predictions will be numbers (0 to {network.classes - 1}); --labels names them.")


def _check_targets(models: list[ConvertedModel], targets: tuple[str, ...]) -> None:
    """Say what of the files would not run on the targets, and exit with 1 if anything; not of the reference."""
    obstacles = False
    for model in models[1:] or models:
        graph = read_graph(model.path)
        for report in (check_target(graph, target) for target in targets):
            obstacles = obstacles or bool(report.obstacles)
            click.echo(f"\n{model.path.name}")
            for line in target_lines(report):
                click.echo(line)
    if obstacles:
        sys.exit(EXIT_GATE_MISSED)
