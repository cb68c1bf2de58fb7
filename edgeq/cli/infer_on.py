"""``edgeq infer --on``: what is on these images, says a device."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from edgeq.cli.infer import print_predictions
from edgeq.cli.output import complain
from edgeq.cli.progress import Progress
from edgeq.device.fleet import on_each
from edgeq.device.inference import DevicePredictions, infer_on
from edgeq.errors import EXIT_ERROR
from edgeq.images import expand
from edgeq.runtime import Model
from edgeq.tflite.metadata import Overrides

__all__ = ["infer_on_devices"]

_THREADS = 4  # what a Raspberry Pi has


def infer_on_devices(
    hosts: Sequence[str],
    images: Sequence[str],
    model_path: str,
    overrides: Overrides,
    top: int,
    as_json: bool,
    timed: bool,
    send_images: bool,
    runtime: str | None,
    threads: int | None,
    kernels: str,
) -> None:
    """Print what devices say of images, one device after the other; exits with 2 if anything failed."""
    if "-" in images:
        raise click.UsageError("--on takes files; standard input is for this machine")
    names = list(expand(images))
    with Progress() as progress:
        outcomes = on_each(
            hosts,
            lambda device: infer_on(
                device,
                Model(model_path, overrides=overrides),  # one a device, as each serves one thread
                names,
                top=top,
                runtime=runtime,
                threads=threads or _THREADS,
                kernels=kernels,
                send_images=send_images,
            ),
            progress,
        )
    failed = False
    for outcome in outcomes:
        if outcome.error is not None:
            failed = True
            complain(outcome.error)
            if as_json:
                click.echo(json.dumps({"device": outcome.device, "error": str(outcome.error)}))
        for answer in outcome.result or ():
            failed = failed or answer.error is not None
            _show(outcome.device, answer, as_json, timed, several=len(outcomes) > 1)
    if failed:
        sys.exit(EXIT_ERROR)


def _show(device: str, answer: DevicePredictions, as_json: bool, timed: bool, several: bool) -> None:
    if answer.error is not None:
        complain(answer.error)
    if as_json:
        line: dict[str, Any] = {"device": device, "file": answer.file}
        if answer.error is not None:
            line["error"] = str(answer.error).removeprefix(f"{answer.file}: ")
        else:
            line["predictions"] = [asdict(p) for p in answer.predictions]
            line |= {"times_ms": answer.times_ms} if timed else {}
        click.echo(json.dumps(line))
    elif answer.error is None:
        name = f"{device}: {answer.file}" if several else answer.file
        print_predictions(name, answer.predictions, (answer.times_ms or {}) if timed else {})
