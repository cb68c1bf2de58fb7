"""``edgeq compare`` with one model: its outputs on several execution backends."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from edgeq.cli.output import complain, show
from edgeq.cli.progress import Progress
from edgeq.comparison.across_backends import compare_backends
from edgeq.errors import EXIT_ERROR
from edgeq.report.across_backends import backend_comparison_lines
from edgeq.tflite.metadata import Overrides

__all__ = ["print_backend_comparison"]


def print_backend_comparison(
    model: str,
    data: str,
    runtimes: Sequence[str],
    hosts: Sequence[str],
    overrides: Overrides,
    json_path: str | None,
) -> None:
    """Print how much a model's outputs differ between runtimes and devices; exits with 2 if one of them failed."""
    with Progress() as progress:
        result = compare_backends(model, data, runtimes=runtimes, on=hosts, overrides=overrides, progress=progress)
    show(backend_comparison_lines(result), result.to_json(), json_path)
    for message in result.errors:
        complain(message)
    if result.errors:
        sys.exit(EXIT_ERROR)
