"""``edgeq summary``: what a network is made of, before it is trained or converted."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

import click

from edgeq.cli.architecture import architecture_options, chosen_output_stride, res_option
from edgeq.cli.output import given_options, show
from edgeq.cli.progress import Progress
from edgeq.errors import ModelError
from edgeq.networks import Architecture, build_keras_model, default_output_stride, open_network
from edgeq.networks.sizes import Summary, summarize
from edgeq.quiet import quiet
from edgeq.report.summary import summary_lines

__all__ = ["command"]

# Options that only a network built here has a use for.
_BUILDING = {
    "family": "--network",
    "alpha": "--alpha",
    "output_stride": "--output-stride",
    "head": "--head",
    "classes": "--classes",
}


@click.command("summary")
@click.argument("source", required=False)
@res_option("224, or SOURCE's own")
@architecture_options
@click.option("--classes", type=click.IntRange(1), default=1000, show_default=True, help="Number of classes.")
@click.option("--json", "json_path", metavar="FILE", help="Also write everything counted as JSON; - prints that alone.")
@click.option("--verbose", is_flag=True, help="Show what TensorFlow prints.")
def command(
    source: str | None,
    size: tuple[int, int] | None,
    family: str,
    alpha: float | None,
    output_stride: str | None,
    head: int | None,
    classes: int,
    json_path: str | None,
    verbose: bool,
) -> None:
    """List a network's blocks: output shape, parameters and multiply-adds, and what they add up to.

    Without SOURCE, of a MobileNet as the options say; no weights are needed for that. SOURCE is a Keras model of
    your own (.keras, or .h5, also of Keras 2).

    Parameters are all numbers that are stored; the line "learned" leaves out the moving averages of batch
    normalization, and is what papers publish. Multiply-adds are those of convolutions and dense layers, for one
    image.

    \b
    Examples:
      edgeq summary
      edgeq summary --network mobilenet_v3_small --res 160x120 --classes 10
      edgeq summary --alpha 0.35 --res 32 --output-stride 8 --json -
      edgeq summary my_model.keras
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "0" if verbose else "3")
    given = given_options(_BUILDING)
    if source is not None and given:
        named = ", ".join(name for key, name in _BUILDING.items() if key in given)
        raise click.UsageError(f"{named}: only for networks that edgeq builds; SOURCE brings its own")
    with Progress() as progress:
        progress("Loading TensorFlow", 0, 1)
        with quiet(verbose):
            if source is None:
                height, width = size or (224, 224)
                stride = chosen_output_stride(output_stride, height, width) or default_output_stride(height, width)
                width_multiplier = 1.0 if alpha is None else alpha
                summary = _built(Architecture(family, height, width, width_multiplier, stride, classes, head))
            else:
                summary = _opened(source, size)
    show(summary_lines(summary), summary.to_json(), json_path)


def _built(architecture: Architecture) -> Summary:
    return replace(summarize(build_keras_model(architecture)), name=architecture.name)


def _opened(source: str, size: tuple[int, int] | None) -> Summary:
    if (Path(source) / "saved_model.pb").is_file():
        raise ModelError(f"{source}: a SavedModel has no layers to list; give the Keras model that it was made from")
    network = open_network(source, size)
    shape = (network.height, network.width, network.channels)
    return replace(summarize(network.keeps_alive, shape), name=network.name)
