"""``edgeq refine``: make an INT8 model agree better with the float model it came from."""

from __future__ import annotations

from typing import Any

import click

from edgeq.calibration import MINIMUM_IMAGES
from edgeq.cli.options import calibration_count_option, make_overrides, model_options, runtime_option
from edgeq.cli.output import show
from edgeq.cli.progress import Progress
from edgeq.refinement import refine
from edgeq.report.files import refined_lines

__all__ = ["command"]


@click.command("refine")
@click.argument("reference", metavar="FP32")
@click.argument("candidate", metavar="INT8")
@click.option(
    "--calib",
    metavar="DIR",
    help="Photos to refine on, searched recursively; best are photos like those the model will see, never those "
    "that it is compared on. Default: the images that come with edgeq.",
)
@calibration_count_option(MINIMUM_IMAGES)
@click.option("--seed", type=click.IntRange(0), default=0, show_default=True, help="Of the choice of photos.")
@click.option("--out", metavar="FILE", help="Where the result goes. Default: INT8's name with _refined.")
@click.option("--bias-only", is_flag=True, help="Correct the biases and leave weights and ranges as they are.")
@click.option("--json", "as_json", is_flag=True, help="Print what was measured as JSON.")
@runtime_option
@model_options
def command(
    reference: str,
    candidate: str,
    calib: str | None,
    calib_count: int,
    seed: int,
    out: str | None,
    bias_only: bool,
    as_json: bool,
    runtime: str | None,
    **about_model: Any,
) -> None:
    """Refine an INT8 model, made by whichever tool, so that it agrees better with its FP32 model.

    The operators of the two files are paired by what they do. Layer after layer, weights are rounded again, ranges
    narrowed and biases corrected, each layer seeing what the corrected integer layers before it produce. The
    model keeps its size, its operators and its speed. One photo in five is kept for checking: if the result is
    not better on those, the model stays as it is. `edgeq convert --int8` does the same by itself.

    \b
    Examples:
      edgeq refine m_fp32.tflite m_int8.tflite --calib photos/
      edgeq refine float.tflite vendor_int8.tflite --calib photos/ --out better.tflite --normalize -1..1
      edgeq refine m_fp32.tflite m_int8.tflite --bias-only --json
    """
    with Progress() as progress:
        refined = refine(
            reference,
            candidate,
            out,
            calibration=calib,
            count=calib_count,
            seed=seed,
            bias_only=bias_only,
            runtime=runtime,
            overrides=make_overrides(**about_model),
            progress=progress,
        )
    show(refined_lines(refined), refined.to_json(), "-" if as_json else None)
