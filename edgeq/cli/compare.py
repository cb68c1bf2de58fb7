"""``edgeq compare``: how far INT8 drifted from FP32."""

from __future__ import annotations

import math
import shlex
import sys
from pathlib import Path
from typing import Any

import click

from edgeq.cli.options import make_overrides, model_options, on_option, runtimes_option
from edgeq.cli.output import complain, show
from edgeq.cli.progress import Progress
from edgeq.comparison import compare
from edgeq.errors import EXIT_GATE_MISSED, InputError
from edgeq.report import comparison_lines, write_report
from edgeq.report.page import require_packages

__all__ = ["command"]

_MODELS = Path("models")


class _Share(click.FloatRange):
    """A share of the images; NaN, against which no gate would ever fail, is refused."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        share = float(super().convert(value, param, ctx))
        if math.isnan(share):
            self.fail("is not a number", param, ctx)
        return share


@click.command("compare")
@click.argument("models", nargs=-1, metavar="[REFERENCE CANDIDATE | MODEL]")
@click.option(
    "--data",
    required=True,
    metavar="DIR|CSV",
    help="Images to compare on, never those used for calibration: a folder, or a file that lists images and classes.",
)
@click.option(
    "--json", "json_path", metavar="FILE", help="Also write everything measured as JSON; - prints that alone."
)
@click.option(
    "--report",
    "report_path",
    metavar="FILE",
    help="Also write it, with --layers where the models allow it, as a page of HTML with photos and charts.",
)
@click.option(
    "--max-drop",
    type=_Share(-1, 1, max_open=True),
    metavar="SHARE",
    help="Exit with 1 if top-1 drops by more, such as 0.01.",
)
@click.option(
    "--min-agreement",
    type=_Share(0, 1),
    metavar="SHARE",
    help="Exit with 1 if top-1 agreement is lower, such as 0.95.",
)
@click.option(
    "--layers",
    is_flag=True,
    help="Also compare the models operator by operator, on a few of the images: where does drift come from?",
)
@click.option("--workers", type=click.IntRange(1), help="Threads, each with its own interpreters. Default: the cores.")
@on_option
@runtimes_option
@model_options
def command(
    models: tuple[str, ...],
    data: str,
    json_path: str | None,
    report_path: str | None,
    max_drop: float | None,
    min_agreement: float | None,
    layers: bool,
    workers: int | None,
    hosts: tuple[str, ...],
    runtimes: tuple[str, ...],
    **about_model: Any,
) -> None:
    """Measure how far a model drifted from its reference on the same images.

    With --on, the candidate runs on that device, and the reference here.

    With one MODEL, says instead how far its outputs differ from place to place: under each --runtime here, with the
    reference kernels, and on each device of --on. All get the same tensors.

    Without paths, takes the newest pair NAME_fp32.tflite and NAME_int8.tflite in models/.

    DIR holds a folder of images per class, or images beside a labels.csv (columns: file, class_index), or
    just images; without known classes, only agreement is measured. A background class (1001 classes against
    1000) is lined up.

    \b
    Examples:
      edgeq compare --data photos/
      edgeq compare m_fp32.tflite m_int8.tflite --data photos/ --json drift.json
      edgeq compare --data photos/ --layers
      edgeq compare --data photos/ --report drift.html
      edgeq compare m_fp32.tflite m_int8.tflite --data photos/ --on pi@raspberrypi
      edgeq compare m_int8.tflite --data photos/ --runtime tflite-runtime --runtime ai-edge-litert
      edgeq compare m_int8.tflite --data photos/ --on pi@raspberrypi
      edgeq compare --data photos/ --max-drop 0.01 --min-agreement 0.95

    The last one is a gate: it exits with 0 if the limits are met, 1 if one is missed, 2 on errors.
    """
    if len(models) == 1:
        if max_drop is not None or min_agreement is not None or layers or report_path is not None:
            raise click.UsageError(
                "--max-drop, --min-agreement, --layers and --report compare two models; give REFERENCE and CANDIDATE"
            )
        from edgeq.cli.compare_backends import print_backend_comparison

        print_backend_comparison(models[0], data, runtimes, hosts, make_overrides(**about_model), json_path)
        return
    if len(models) not in (0, 2):
        raise click.UsageError("give both REFERENCE and CANDIDATE, or neither")
    if len(hosts) > 1 or len(runtimes) > 1:
        raise click.UsageError("--on and --runtime, given several times, compare one MODEL in several places")
    reference, candidate = models or _newest_pair(_MODELS)
    if report_path is not None:
        require_packages()
    with Progress() as progress:
        result = compare(
            reference,
            candidate,
            data,
            runtime=runtimes[0] if runtimes else None,
            workers=workers,
            overrides=make_overrides(**about_model),
            labels_needed=max_drop is not None,
            layers=layers or ("auto" if report_path is not None else False),
            on=hosts[0] if hosts else None,
            progress=progress,
        )
    show(comparison_lines(result), result.to_json(), json_path)
    if report_path is not None:
        write_report(result, report_path, shlex.join(["edgeq", *sys.argv[1:]]))
    missed = result.missed_limits(max_drop, min_agreement)
    for reason in missed:
        complain(reason, "Missed")
    if missed:
        sys.exit(EXIT_GATE_MISSED)


def _newest_pair(folder: Path) -> tuple[str, str]:
    """The newest INT8 file that has its FP32 reference beside it."""
    pairs = [
        (reference, candidate)
        for candidate in folder.glob("*_int8.tflite")
        if (reference := candidate.with_name(candidate.name.replace("_int8.", "_fp32."))).is_file()
    ]
    if not pairs:
        raise InputError(
            f"{folder}: holds no pair NAME_fp32.tflite and NAME_int8.tflite; make one with edgeq convert --int8, or "
            "give REFERENCE and CANDIDATE"
        )
    reference, candidate = max(pairs, key=lambda pair: (pair[1].stat().st_mtime, pair[1].name))
    return str(reference), str(candidate)
