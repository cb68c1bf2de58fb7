"""``edgeq infer``: what is on these images."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import click

from edgeq.cli.options import make_overrides, model_options, on_option, runtime_option
from edgeq.cli.output import complain
from edgeq.errors import EXIT_ERROR
from edgeq.images import expand, skipped_note
from edgeq.inference import classify_all
from edgeq.progress import no_progress
from edgeq.report.predictions import prediction_lines
from edgeq.runtime import KERNELS

__all__ = ["command"]


@click.command("infer")
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@click.option("--model", "-m", "model_path", required=True, metavar="FILE", help="The .tflite model.")
@click.option("--top", default=5, show_default=True, type=click.IntRange(1), help="How many labels to print.")
@click.option("--json", "as_json", is_flag=True, help="Print one JSON object per image, each on a line.")
@click.option("--time", "timed", is_flag=True, help="Also print decode, preprocess and invoke times.")
@click.option("--threads", type=click.IntRange(1), help="Threads of the interpreter. Default: the cores, up to 4.")
@click.option(
    "--kernels",
    type=click.Choice(KERNELS),
    default="default",
    show_default=True,
    help="The reference kernels are slow and give the same bytes on every machine.",
)
@on_option
@click.option("--images", "send_images", is_flag=True, help="With --on: send the photos, which the device decodes.")
@runtime_option
@model_options
def command(
    images: tuple[str, ...],
    model_path: str,
    top: int,
    as_json: bool,
    timed: bool,
    threads: int | None,
    kernels: str,
    hosts: tuple[str, ...],
    send_images: bool,
    runtime: str | None,
    **about_model: Any,
) -> None:
    """Name what is on images.

    IMAGE is a file, a folder, a pattern such as 'photos/*.jpg', or - for standard input. An image that cannot
    be read is reported and the rest go on; the exit code is 2 then. Other files in a folder are skipped.

    \b
    Examples:
      edgeq infer photo.jpg --model m.tflite
      edgeq infer photos/ --model m.tflite --top 1
      edgeq infer photos/ --model m.tflite --json > predictions.jsonl
      cat photo.jpg | edgeq infer - --model m.tflite --time
      edgeq infer photos/ --model m.tflite --on pi@raspberrypi
      edgeq infer cat.jpg --model theirs.tflite --normalize 0..1 --labels labels.txt
    """
    files, others = expand(images)
    if others:
        click.echo(f"{skipped_note(len(others)).capitalize()}.", err=True)
    if hosts:
        from edgeq.cli.progress import Progress  # only devices take so long, and every start-up millisecond counts
    with Progress() if hosts else contextlib.nullcontext(no_progress) as progress:
        results = classify_all(
            files,
            model_path,
            top=top,
            runtime=runtime,
            threads=threads,
            kernels=kernels,
            overrides=make_overrides(**about_model),
            on=hosts,
            send_images=send_images,
            progress=progress,
        )
        # Devices are done before the first result comes, and then so is their progress.
        shown = list(results) if hosts else results
    failed = False
    for result in shown:
        if result.error is not None:
            failed = True
            complain(result.error)
        if as_json:
            document = result.to_json()
            if not timed:
                document.pop("times_ms", None)
            click.echo(json.dumps(document))
        elif result.error is None:
            name, *lines = prediction_lines(result, timed=timed, with_device=len(set(hosts)) > 1)
            click.secho(name, bold=True)
            for line in lines:
                click.echo(line)
    if failed:
        sys.exit(EXIT_ERROR)
