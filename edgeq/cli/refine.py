"""``edgeq refine``: make an INT8 model agree better with the float model it came from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import click

from edgeq.calibration import MINIMUM_IMAGES, choose_images, shipped_images
from edgeq.cli.options import calibration_count_option, make_overrides, model_options, runtime_option
from edgeq.cli.output import list_skipped
from edgeq.cli.progress import Progress
from edgeq.comparison.pair import open_both
from edgeq.files import replacing
from edgeq.images import require_folder
from edgeq.refinement import METHODS, refine
from edgeq.report import refinement_line
from edgeq.runtime import available_cores
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, read_metadata

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

    The operators of the two files are paired by what they do. Layer after layer, weights are rounded anew, ranges
    narrowed and biases corrected, each layer seeing what the corrected integer layers before it produce. The
    model keeps its size, its operators and its speed. One photo in five is kept for checking: if the result is
    not better on those, the model stays as it is. `edgeq convert --int8` does the same by itself.

    \b
    Examples:
      edgeq refine m_fp32.tflite m_int8.tflite --calib photos/
      edgeq refine float.tflite vendor_int8.tflite --calib photos/ --out better.tflite --normalize -1..1
      edgeq refine m_fp32.tflite m_int8.tflite --bias-only --json
    """
    folder = require_folder(calib) if calib is not None else shipped_images()
    target = Path(out) if out else Path(candidate).with_name(f"{Path(candidate).stem}_refined.tflite")
    with Progress() as progress:
        float_model, integer_model, notes = open_both(reference, candidate, runtime, make_overrides(**about_model))
        chosen = choose_images(folder, integer_model.preprocessing, calib_count, seed, progress)
        content, refinement = refine(
            float_model,
            integer_model,
            chosen.pixels,
            methods=() if bias_only else METHODS,
            threads=available_cores(),
            progress=progress,
        )
    metadata = read_metadata(candidate)
    if metadata.provenance:  # a file of edgeq's says what happened to it; others stay byte for byte but for the numbers
        from edgeq.tflite.metadata_writer import repack

        record = refinement.to_json()
        seen = sorted({digest[:FINGERPRINT_LENGTH] for digest in chosen.digests} - metadata.calibrated_on)
        if seen:  # other photos than it was calibrated on: a comparison must know them, though the file grows by that
            record["fingerprints"] = seen
        content = repack(content, replace(metadata, provenance=metadata.provenance | {"refinement": record}))
    with replacing([target]) as (part,):
        part.write_bytes(content)
    if as_json:
        click.echo(json.dumps({"path": str(target), **refinement.to_json()}, indent=1))
        return
    click.echo(f"{target}")
    click.echo(refinement_line(refinement))
    for note in notes:
        click.echo(f"Note: {note}.")
    list_skipped(chosen.skipped)
