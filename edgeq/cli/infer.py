"""``edgeq infer``: what is on these images."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import asdict
from time import perf_counter
from typing import Any

import click

from edgeq.classification import Prediction, top_predictions
from edgeq.cli.options import make_overrides, model_options
from edgeq.errors import EXIT_ERROR, ImageError
from edgeq.images import Source, expand
from edgeq.runtime import KERNELS, Model

__all__ = ["command"]

_MOST_THREADS = 4  # what a Raspberry Pi has; a small network gains nothing from more


@click.command("infer")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", "-m", "model_path", required=True, metavar="FILE", help="The .tflite model.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many labels to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object a line and image.")
@click.option("--time", "timed", is_flag=True, help="Also print decode, preprocess and invoke times.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the interpreter. Default: the cores, up to 4.")
@click.option(
    "--kernels",
    type=click.Choice(KERNELS),
    default="default",
    show_default=True,
    help="The reference kernels are slow and give the same bytes on every machine.",
)
@model_options
def command(
    images: tuple[str, ...],
    model_path: str,
    top: int,
    as_json: bool,
    timed: bool,
    threads: int | None,
    kernels: str,
    runtime: str | None,
    **about_model: Any,
) -> None:
    """Name what is on images.

    IMAGE is a file, a folder, a pattern such as 'photos/*.jpg', or - for standard input. A file that cannot
    be read is reported and the rest go on; the exit code is 2 then.

    \b
    Examples:
      edgeq infer photo.jpg --model m.tflite
      edgeq infer photos/ --model m.tflite --top 1
      edgeq infer photos/ --model m.tflite --json > predictions.jsonl
      cat photo.jpg | edgeq infer - --model m.tflite --time
      edgeq infer cat.jpg --model theirs.tflite --normalize 0..1 --labels labels.txt
    """
    model = Model(
        model_path,
        runtime=runtime,
        threads=threads or min(_MOST_THREADS, os.cpu_count() or 1),
        kernels=kernels,
        overrides=make_overrides(**about_model),
    )
    failed = False
    for name in expand(images):
        try:
            predictions, times_ms = _classify(model, sys.stdin.buffer.read() if name == "-" else name, top)
        except ImageError as error:
            failed = True
            click.echo(f"{click.style('Error', fg='red')}: {error}", err=True)
            if as_json:
                click.echo(json.dumps({"file": name, "error": str(error)}))
            continue
        if as_json:
            line: dict[str, Any] = {"file": name, "predictions": [asdict(p) for p in predictions]}
            if timed:
                line["times_ms"] = times_ms
            click.echo(json.dumps(line))
        else:
            _print(name, predictions, times_ms if timed else {})
    if failed:
        sys.exit(EXIT_ERROR)


def _classify(model: Model, source: Source, top: int) -> tuple[list[Prediction], dict[str, float]]:
    """The best classes of one image, and how long each step took, in milliseconds."""
    times = [perf_counter()]
    image = model.preprocessing.decode(source)
    times.append(perf_counter())
    tensor = model.tensor(model.preprocessing.resample(image))
    times.append(perf_counter())
    output = model.invoke(tensor)
    times.append(perf_counter())
    steps = zip(("decode", "preprocess", "invoke"), times, times[1:], strict=False)
    times_ms = {step: round((end - start) * 1000, 3) for step, start, end in steps}
    return top_predictions(model.probabilities(output), model.labels, top), times_ms


def _print(name: str, predictions: list[Prediction], times_ms: dict[str, float]) -> None:
    click.secho(name, bold=True)
    for prediction in predictions:
        click.echo(f"{prediction.probability:8.1%}  {prediction.label}")
    if times_ms:
        click.echo("          " + ", ".join(f"{step} {ms:.1f} ms" for step, ms in times_ms.items()))
