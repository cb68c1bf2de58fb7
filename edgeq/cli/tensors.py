"""What ``edgeq compare`` and ``edgeq infer`` do with models that are no image classifiers."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

import click

from edgeq.cli.output import complain, refuse_given, show
from edgeq.cli.progress import Progress
from edgeq.comparison import compare_tensors
from edgeq.errors import EXIT_ERROR, EXIT_GATE_MISSED
from edgeq.inference.tensors import infer_tensors, write_answers
from edgeq.report.markdown import write_markdown
from edgeq.report.page import require_packages, write_report
from edgeq.report.tensors import answer_lines, tensor_comparison_lines

__all__ = ["compare_pair", "infer"]

_ONLY_CLASSIFIERS = "only for image classifiers, but this model's outputs are plain tensors"


def compare_pair(
    reference: str,
    candidate: str,
    data: str,
    *,
    min_sqnr: float | None,
    json_path: str | None,
    report_path: str | None,
    markdown_path: str | None,
    command_line: str,
    **settings: Any,
) -> None:
    """Compare two models of plain tensors; exits with 1 if the limit is missed.

    Args:
        reference: the reference's file.
        candidate: the candidate's file.
        data: the samples.
        min_sqnr: smallest acceptable SQNR in decibels, or None.
        json_path: JSON file to write, - for standard output, or None.
        report_path: HTML file to write, or None.
        markdown_path: Markdown file to write, or None.
        command_line: the command, for the HTML page.
        settings: further arguments of `compare_tensors`.
    """
    refuse_given(("max_drop", "min_agreement", "labels", "scheduler", "resume"), _ONLY_CLASSIFIERS)
    if report_path is not None:
        require_packages()
    with Progress() as progress:
        result = compare_tensors(reference, candidate, data, progress=progress, **settings)
    show(tensor_comparison_lines(result), result.to_json(), json_path)
    if report_path is not None:
        write_report(result, report_path, command_line)
    missed = result.missed_limits(min_sqnr)
    if markdown_path is not None:
        write_markdown(result, markdown_path, missed if min_sqnr is not None else None)
    for reason in missed:
        complain(reason, "Missed")
    if missed:
        sys.exit(EXIT_GATE_MISSED)


def infer(samples: Sequence[str], model: str, *, out: str | None, as_json: bool, timed: bool, **settings: Any) -> None:
    """Run a model of plain tensors on samples; exits with 2 if one cannot be read or a device failed.

    Args:
        samples: files, or one folder.
        model: the .tflite file.
        out: .npz file to write, or None.
        as_json: whether to print one JSON object per sample.
        timed: whether to print the times.
        settings: further arguments of `infer_tensors`.
    """
    refuse_given(("top", "send_images", "labels"), _ONLY_CLASSIFIERS)
    if out is not None and len(settings["on"]) > 1:
        raise click.UsageError("--out: the outputs of several devices do not fit into one file; give --on once")
    data = samples[0] if len(samples) == 1 else list(samples)
    with Progress() as progress:
        answers = list(infer_tensors(data, model, progress=progress, **settings))
    failed = [answer for answer in answers if answer.error is not None]
    for answer in failed:
        complain(answer.error)
    if as_json:
        for answer in answers:
            document = answer.to_json()
            if not timed:
                document.pop("times_ms", None)
            click.echo(json.dumps(document))
    else:
        for line in answer_lines(answers):
            click.echo(line)
        if timed:
            for answer in answers:
                if answer.error is None:
                    click.echo(f"{answer.file}: inference {answer.times_ms['invoke']:.2f} ms")
    if out is not None:
        write_answers(answers, out)
    if failed:
        sys.exit(EXIT_ERROR)
