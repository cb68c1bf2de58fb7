"""``edgeq compare``: compare two models, or one model on several execution backends."""

from __future__ import annotations

import logging
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

from edgeq.cli.help import Command, option
from edgeq.cli.options import (
    FiniteRange,
    json_option,
    make_overrides,
    model_options,
    on_option,
    runtimes_option,
    scheduler_option,
    task_option,
    trust_option,
)
from edgeq.cli.output import complain, refuse_given, show
from edgeq.cli.progress import Progress
from edgeq.comparison import compare, compare_backends
from edgeq.errors import EXIT_ERROR, EXIT_GATE_MISSED, InputError
from edgeq.report.across_backends import backend_comparison_lines
from edgeq.report.markdown import write_markdown
from edgeq.report.page import require_packages, write_report
from edgeq.report.terminal import comparison_lines
from edgeq.samples import holds_arrays
from edgeq.tflite.metadata import Overrides
from edgeq.tflite.task import TENSORS, read_task

__all__ = ["command"]

_MODELS = Path("models")


@click.command("compare", cls=Command)
@click.argument("models", nargs=-1, metavar="[REFERENCE CANDIDATE | MODEL]")
@option(
    "Input",
    "--data",
    required=True,
    metavar="DIR|CSV|TAR|NPZ",
    help="Images to compare on: a folder, a CSV file that lists images and classes, or tar files as WebDataset writes "
    "them, such as 'shard-{000..127}.tar'; also as a URL. Do not use calibration images. For a model that is no "
    "image classifier: a folder of .npz files, or one file.",
)
@task_option
@trust_option
@option(
    "Comparison",
    "--layers",
    is_flag=True,
    help="Also compare the models operator by operator, to find the layers that cause the drift.",
)
@option(
    "Comparison",
    "--workers",
    type=click.IntRange(1),
    show_default="the number of cores",
    help="Number of threads, each with its own interpreters. With --scheduler, the threads of each task; default: 1.",
)
@option(
    "Comparison",
    "--resume",
    metavar="DIR",
    help="Keep finished parts of the comparison in DIR. After an interruption, run the same command again to go on.",
)
@option(
    "Limits",
    "--max-drop",
    type=FiniteRange(-1, 1, max_open=True),
    metavar="FRACTION",
    help="Exit with 1 if the top-1 accuracy drops by more than this fraction, such as 0.01.",
)
@option(
    "Limits",
    "--min-agreement",
    type=FiniteRange(0, 1),
    metavar="FRACTION",
    help="Exit with 1 if the top-1 agreement is below this fraction, such as 0.95.",
)
@option(
    "Limits",
    "--min-sqnr",
    type=FiniteRange(),
    metavar="DB",
    help="Exit with 1 if the SQNR of an output is below this number of decibels, such as 30. For models that are no "
    "image classifiers.",
)
@runtimes_option
@on_option
@scheduler_option
@model_options
@option(
    "Output",
    "--report",
    "report_path",
    metavar="FILE",
    help="Also write an HTML report with photos and charts. It includes --layers if the layers of the models "
    "correspond.",
)
@option(
    "Output",
    "--markdown",
    "markdown_path",
    metavar="FILE",
    help="Also write a Markdown summary, for a CI job or a pull request.",
)
@json_option
def command(
    models: tuple[str, ...],
    data: str,
    task: str | None,
    json_path: str | None,
    report_path: str | None,
    markdown_path: str | None,
    max_drop: float | None,
    min_agreement: float | None,
    min_sqnr: float | None,
    layers: bool,
    workers: int | None,
    resume: str | None,
    scheduler: str | None,
    hosts: tuple[str, ...],
    runtimes: tuple[str, ...],
    **about_model: Any,
) -> None:
    """Compare a quantized model with its original on your images.

    Use it to measure the loss from quantization: accuracy, agreement and drift, with 95 % intervals. REFERENCE is
    usually the FP32 model and CANDIDATE the INT8 model. Without them, edgeq takes the newest pair NAME_fp32.tflite and
    NAME_int8.tflite in models/. With --on, the candidate runs on that board and the reference on the host.

    With one MODEL, edgeq compares its outputs under each --runtime, under the reference kernels and on each board
    given by --on. All of them get the same input tensors.

    With --scheduler, the workers of a Dask cluster run both models on parts of the images; the JSON is the same as
    without it, except for the latency, which is always measured here.

    DIR has one sub-folder per class, or images and a labels.csv (columns: file, class_index), or only images. If the
    true classes are unknown, accuracy is not measured. For a model that is no image classifier, DIR has .npz files with
    one array per input, and edgeq measures the drift of each output. Exit codes: 0 if all limits are met, 1 if a limit
    is missed, 2 on errors.

    \b
    Examples:
      $ edgeq compare --data photos/
      ...
      drift                on 250 images  95 % interval
      top-1 agreement      97.9 %         95.3 to 99.1 %
      top-1 drop           0.9 points     -0.7 to 2.4 (McNemar p = 0.5)
      $ edgeq compare m_fp32.tflite m_int8.tflite --data photos/ --layers
      $ edgeq compare --data photos/ --report drift.html --json drift.json
      $ edgeq compare --data photos/ --max-drop 0.01 --min-agreement 0.95
      $ edgeq compare --data photos/ --min-agreement 0.95 --markdown drift.md
      $ edgeq compare m_fp32.tflite m_int8.tflite --data photos/ --on pi@kitchen
      $ edgeq compare m_int8.tflite --data photos/ --on pi@kitchen
      $ edgeq compare a_fp32.tflite a_int8.tflite --data samples.npz --min-sqnr 30
      $ edgeq compare --data imagenet/ --scheduler tcp://10.0.0.5:8786
      $ edgeq compare --data 'https://host/shard-{000..127}.tar' --resume run1
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # its caches are not needed
    task = task or (TENSORS if holds_arrays(data) else None)
    if hosts:
        refuse_given(("scheduler", "resume"), "not with --on; a board is not part of a cluster")
    if len(models) == 1:
        refuse_given(("scheduler", "resume"), "need two models; give REFERENCE and CANDIDATE")
        for_two = (max_drop, min_agreement, min_sqnr, report_path, markdown_path)
        if layers or any(value is not None for value in for_two):
            raise click.UsageError(
                "--max-drop, --min-agreement, --min-sqnr, --layers, --report and --markdown need two models; give "
                "REFERENCE and CANDIDATE"
            )
        _compare_backends(models[0], data, runtimes, hosts, make_overrides(**about_model), json_path, task)
        return
    if len(models) not in (0, 2):
        raise click.UsageError("give both REFERENCE and CANDIDATE, or neither")
    if len(hosts) > 1 or len(runtimes) > 1:
        raise click.UsageError(
            "--on and --runtime can be repeated only with one MODEL; with two models, give each option once"
        )
    reference, candidate = models or _newest_pair(_MODELS)
    command_line = shlex.join(["edgeq", *sys.argv[1:]])
    settings: dict[str, Any] = {
        "runtime": runtimes[0] if runtimes else None,
        "workers": workers,
        "overrides": make_overrides(**about_model),
        "layers": layers or ("auto" if report_path is not None else False),
        "on": hosts[0] if hosts else None,
    }
    if read_task(reference, task) == TENSORS:
        from edgeq.cli.tensors import compare_pair

        compare_pair(
            reference,
            candidate,
            data,
            min_sqnr=min_sqnr,
            json_path=json_path,
            report_path=report_path,
            markdown_path=markdown_path,
            command_line=command_line,
            **settings,
        )
        return
    settings |= {"scheduler": None if hosts else scheduler, "resume": resume}
    refuse_given(("min_sqnr",), "only for models of plain tensors; use --min-agreement for image classifiers")
    if report_path is not None:
        require_packages()
    with Progress() as progress:
        result = compare(
            reference,
            candidate,
            data,
            labels_needed=max_drop is not None,
            progress=progress,
            **settings,
        )
    show(comparison_lines(result), result.to_json(), json_path)
    if report_path is not None:
        write_report(result, report_path, command_line)
    missed = result.missed_limits(max_drop, min_agreement)
    if markdown_path is not None:
        has_limits = max_drop is not None or min_agreement is not None
        write_markdown(result, markdown_path, missed if has_limits else None)
    for reason in missed:
        complain(reason, "Missed")
    if missed:
        sys.exit(EXIT_GATE_MISSED)


def _compare_backends(
    model: str,
    data: str,
    runtimes: Sequence[str],
    hosts: Sequence[str],
    overrides: Overrides,
    json_path: str | None,
    task: str | None,
) -> None:
    """Print how much a model's outputs differ between runtimes and devices; exits with 2 if one of them failed."""
    with Progress() as progress:
        result = compare_backends(
            model, data, runtimes=runtimes, on=hosts, overrides=overrides, task=task, progress=progress
        )
    show(backend_comparison_lines(result), result.to_json(), json_path)
    for message in result.errors:
        complain(message)
    if result.errors:
        sys.exit(EXIT_ERROR)


def _newest_pair(folder: Path) -> tuple[str, str]:
    """Return the newest INT8 file and its FP32 reference in the same folder, as (reference, candidate)."""
    pairs = [
        (reference, candidate)
        for candidate in folder.glob("*_int8.tflite")
        if (reference := candidate.with_name(candidate.name.replace("_int8.", "_fp32."))).is_file()
    ]
    if not pairs:
        raise InputError(
            f"{folder}: contains no pair NAME_fp32.tflite and NAME_int8.tflite; make one with edgeq convert --int8, or "
            "give REFERENCE and CANDIDATE"
        )
    reference, candidate = max(pairs, key=lambda pair: (pair[1].stat().st_mtime, pair[1].name))
    return str(reference), str(candidate)
