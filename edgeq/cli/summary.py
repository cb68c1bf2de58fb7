"""``edgeq summary``: list a network's blocks and their costs."""

from __future__ import annotations

from typing import Any

import click

from edgeq.cli.architecture import BUILDING, architecture_options, chosen_architecture, res_option
from edgeq.cli.help import Command, option
from edgeq.cli.options import json_option, verbose_option
from edgeq.cli.output import refuse_given, show
from edgeq.cli.progress import Progress
from edgeq.cli.temporary import own_temporary_folder
from edgeq.networks import summarize
from edgeq.report.network import summary_lines

__all__ = ["command"]


@click.command("summary", cls=Command)
@click.argument("source", required=False)
@res_option("224, or SOURCE's own")
@architecture_options
@option("Network", "--classes", type=click.IntRange(1), default=1000, help="Number of classes.")
@json_option
@verbose_option
@own_temporary_folder()
def command(
    source: str | None,
    size: tuple[int, int] | None,
    json_path: str | None,
    verbose: bool,
    **building: Any,
) -> None:
    """List a network's blocks, parameters and multiply-adds.

    Use it to choose a size before you train or convert. SOURCE is your own Keras model (.keras or .h5, including
    Keras 2). Without SOURCE, edgeq describes the MobileNet that the options select. This needs no weights.

    The line "total" counts all stored numbers. The line "learned" excludes the moving averages of batch
    normalization, as published parameter counts do. Multiply-adds are those of convolutions and dense layers, for one
    image.

    \b
    Examples:
      $ edgeq summary --network mobilenet_v3_small --res 96
      mobilenet_v3_small_1.0_96, input 96x96x3
      ...
      block             operators               output    parameters  mult-adds
      conv              conv 3x3/2              48x48x16         496      1.0 M
      expanded_conv     dw 3x3/2, SE, 1x1       24x24x16         808      0.2 M
      ...
      total                                                2,554,968     12.1 M
      $ edgeq summary --alpha 0.35 --res 32 --output-stride 8 --json -
      $ edgeq summary my_model.keras
    """
    if source is not None:
        refuse_given(BUILDING, "only for networks that edgeq builds, not for SOURCE")
    with Progress() as progress:
        progress("Loading TensorFlow", 0, 1)
        wanted = chosen_architecture(size, **building) if source is None else source
        summary = summarize(wanted, size=size, verbose=verbose)
    show(summary_lines(summary), summary.to_json(), json_path)
