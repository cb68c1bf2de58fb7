"""``edgeq summary``: what a network is made of, before it is trained or converted."""

from __future__ import annotations

import click

from edgeq.cli.architecture import BUILDING, architecture_options, chosen_output_stride, res_option
from edgeq.cli.output import refuse_given, show
from edgeq.cli.progress import Progress
from edgeq.networks import Architecture, default_output_stride, summarize
from edgeq.report.network import summary_lines

__all__ = ["command"]


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
    if source is not None:
        refuse_given(BUILDING, "only for networks that edgeq builds; SOURCE brings its own")

    def architecture() -> Architecture:
        height, width = size or (224, 224)
        stride = chosen_output_stride(output_stride, height, width) or default_output_stride(height, width)
        return Architecture(family, height, width, 1.0 if alpha is None else alpha, stride, classes, head)

    with Progress() as progress:
        progress("Loading TensorFlow", 0, 1)
        summary = summarize(architecture() if source is None else source, size=size, verbose=verbose)
    show(summary_lines(summary), summary.to_json(), json_path)
