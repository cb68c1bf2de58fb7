"""``edgeq infer``: classify images, or run a model of plain tensors."""

from __future__ import annotations

import contextlib
import json
import sys
from typing import Any

import click

from edgeq.cli.help import Command, option
from edgeq.cli.options import (
    kernels_option,
    make_overrides,
    model_options,
    on_option,
    runtime_option,
    task_option,
    trust_option,
)
from edgeq.cli.output import complain, refuse_given
from edgeq.errors import EXIT_ERROR
from edgeq.images import expand, is_array_file, skipped_note
from edgeq.inference import classify_all
from edgeq.progress import no_progress
from edgeq.report.predictions import prediction_lines
from edgeq.tflite.task import TENSORS, read_task

__all__ = ["command"]


@click.command("infer", cls=Command)
@click.argument("images", nargs=-1, required=True, metavar="IMAGE...")
@option("Input", "--model", "-m", "model_path", required=True, metavar="FILE", help="The .tflite model.")
@task_option
@trust_option
@option("Output", "--top", default=5, type=click.IntRange(1), help="Number of most probable classes to print.")
@option("Output", "--out", metavar="FILE", help="Write the outputs of a model of plain tensors to a .npz file.")
@option("Output", "--json", "as_json", is_flag=True, help="Print one JSON object per image, each on its own line.")
@option(
    "Output", "--time", "timed", is_flag=True, help="Also print the times of decoding, preprocessing and inference."
)
@runtime_option
@option(
    "Runtime",
    "--threads",
    type=click.IntRange(1),
    show_default="the number of cores, at most 4",
    help="Number of threads. Many files are classified that many at a time, few files one after the other.",
)
@kernels_option
@on_option
@option(
    "Device",
    "--images",
    "send_images",
    is_flag=True,
    help="With --on, send the image files and decode them on the board. By default the host decodes them and sends the "
    "input tensors.",
)
@model_options
def command(
    images: tuple[str, ...],
    model_path: str,
    task: str | None,
    top: int,
    out: str | None,
    as_json: bool,
    timed: bool,
    threads: int | None,
    kernels: str,
    hosts: tuple[str, ...],
    send_images: bool,
    runtime: str | None,
    **about_model: Any,
) -> None:
    """Classify images with a model.

    Use it to try a model on the host or, with --on, on a board. IMAGE is a file, a folder, a pattern such as
    'photos/*.jpg', or - for standard input. The model is any TFLite image classifier. Models from other tools may
    need --normalize and --labels.

    For a model that is no image classifier, give .npz files with one array per input, by name. edgeq prints the shape
    and the range of each output. With --out it also writes them to a .npz file.

    If an image cannot be read, edgeq reports it, classifies the others, and exits with 2. Files in a folder that are
    not images are skipped.

    \b
    Examples:
      $ edgeq infer parrot.jpg --model m.tflite --top 3
      parrot.jpg
         97.7%  macaw
          0.4%  lorikeet
          0.4%  bee eater
      $ edgeq infer photos/ --model m.tflite --json > predictions.jsonl
      $ cat photo.jpg | edgeq infer - --model m.tflite --time
      $ edgeq infer photos/ --model m.tflite --on pi@raspberrypi
      $ edgeq infer cat.jpg --model m.tflite --normalize 0..1 --labels names.txt
      $ edgeq infer sample.npz --model autoencoder_int8.tflite --out out.npz
    """
    arrays = any(map(is_array_file, images))
    if read_task(model_path, task or (TENSORS if arrays else None)) == TENSORS:
        from edgeq.cli.tensors import infer  # imported here: start-up time matters

        infer(
            images,
            model_path,
            out=out,
            as_json=as_json,
            timed=timed,
            runtime=runtime,
            threads=threads,
            kernels=kernels,
            overrides=make_overrides(**about_model),
            on=hosts,
        )
        return
    refuse_given(("out",), "only for models of plain tensors; use --json for predictions")
    files, others = expand(images)
    if others:
        click.echo(f"{skipped_note(len(others)).capitalize()}.", err=True)
    if hosts:
        from edgeq.cli.progress import Progress  # only boards need it; start-up time matters
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
        # With boards, all work is done before the first result. Reading all results finishes the progress bars.
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
