"""``edgeq bench``: measure speed and memory."""

from __future__ import annotations

import sys
from typing import Any

import click

from edgeq.benchmarking import bench, bench_devices
from edgeq.cli.help import Command, option
from edgeq.cli.options import FiniteRange, json_option, on_option, trust_option
from edgeq.cli.output import complain, show
from edgeq.cli.progress import Progress
from edgeq.errors import EXIT_ERROR
from edgeq.report.benchmark import benchmark_lines, fleet_lines
from edgeq.runtime import RUNTIMES

__all__ = ["command"]


@click.command("bench", cls=Command)
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@option(
    "Measurement",
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(list(RUNTIMES)),
    metavar="NAME",
    show_default="all installed runtimes",
    help=f"TFLite runtime: {', '.join(RUNTIMES)}. Repeat the option for several runtimes.",
)
@option(
    "Measurement",
    "--threads",
    multiple=True,
    type=click.IntRange(1),
    show_default="1, 2 and 4, up to the number of cores",
    help="Number of threads of the interpreter. Repeat the option for several numbers.",
)
@option(
    "Measurement",
    "--seconds",
    type=FiniteRange(0, min_open=True),
    default=2.0,
    metavar="SECONDS",
    help="Time for which each model runs in each configuration.",
)
@on_option
@trust_option
@json_option
def command(models: tuple[str, ...], hosts: tuple[str, ...], json_path: str | None, **options: Any) -> None:
    """Measure load time, latency and memory of models.

    Use it to choose a runtime and a number of threads, on the host or, with --on, on a board. MODEL is any .tflite
    file. The inputs are noise.

    Each configuration (runtime, with or without XNNPACK, threads) runs in a separate process. Within a configuration
    the models run alternately, because a machine's speed changes with its temperature and load. The ratios between
    models are therefore more reliable than the times. Times are in milliseconds.

    \b
    Examples:
      $ edgeq bench m_fp32.tflite m_int8.tflite --threads 1
      ...
      m_int8.tflite  4.04 MB  ai-edge-litert 2.3.0
      kernels   threads  median  p90   p99   min   img/s  load  first  ...
      XNNPACK   1        3.31    3.87  7.41  3.11  302    14.0  3.29   ...
      built-in  1        15.1    20.4  25.5  14.2  66.3   1.69  16.4   ...
      $ edgeq bench m.tflite --runtime tflite-runtime --seconds 10
      $ edgeq bench m.tflite --on pi@raspberrypi --on pi@kitchen
      $ edgeq bench m.tflite --json - | jq '.measurements[0].median_ms'
    """
    if hosts:
        _bench_on(hosts, models, json_path, **options)
        return
    with Progress() as progress:
        result = bench(models, **options, progress=progress)
    show(benchmark_lines(result), result.to_json(), json_path)


def _bench_on(hosts: tuple[str, ...], models: tuple[str, ...], json_path: str | None, **options: Any) -> None:
    """Measure on devices in parallel; exits with 2 if one of them failed."""
    with Progress() as progress:
        outcomes = bench_devices(models, hosts, **options, progress=progress)
    entries = [
        {"device": o.device, "benchmark": o.result and o.result.to_json(), "error": o.error and str(o.error)}
        for o in outcomes
    ]
    for outcome in outcomes:
        if outcome.error is not None:
            complain(outcome.error)
    measured = {outcome.device: outcome.result for outcome in outcomes if outcome.result is not None}
    lines = [
        line
        for device, result in measured.items()
        for line in (click.style(device, bold=True), *benchmark_lines(result), "")
    ]
    show([*lines, *(fleet_lines(measured) if len(outcomes) > 1 else ())], {"devices": entries}, json_path)
    if len(measured) < len(outcomes):
        sys.exit(EXIT_ERROR)
