"""``edgeq bench``: how fast models run."""

from __future__ import annotations

import sys

import click

from edgeq.benchmarking import bench, bench_devices
from edgeq.cli.options import on_option
from edgeq.cli.output import complain, show
from edgeq.cli.progress import Progress
from edgeq.errors import EXIT_ERROR
from edgeq.report.benchmark import benchmark_lines, fleet_lines
from edgeq.runtime import RUNTIMES

__all__ = ["command"]


@click.command("bench")
@click.argument("models", nargs=-1, required=True, metavar="MODEL...")
@click.option(
    "--runtime",
    "runtimes",
    multiple=True,
    type=click.Choice(list(RUNTIMES)),
    help="What runs the models; may be given several times. Default: each that is installed.",
)
@click.option(
    "--threads",
    multiple=True,
    type=click.IntRange(1),
    metavar="N",
    help="Threads of the interpreter; may be given several times. Default: 1, 2 and 4, as far as there are cores.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(0, min_open=True),
    default=2.0,
    show_default=True,
    help="How long to run each model in each way.",
)
@on_option
@click.option(
    "--json", "json_path", metavar="FILE", help="Also write everything measured as JSON; - prints that alone."
)
def command(
    models: tuple[str, ...],
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    seconds: float,
    hosts: tuple[str, ...],
    json_path: str | None,
) -> None:
    """Measure how fast models run: cold load, first inference, then median, p90, p99 and minimum.

    Each model runs in each way (runtime, XNNPACK or not, threads) in a process of its own, so its memory and its
    crashes are its own. They take turns, as many at a time as fit into a quarter of the free memory, and always the
    models in one way: a machine's speed drifts, but ratios hold. Any .tflite will do; its inputs are noise.

    \b
    Examples:
      edgeq bench m.tflite
      edgeq bench m_fp32.tflite m_int8.tflite --threads 1
      edgeq bench m.tflite --runtime tflite-runtime --seconds 10
      edgeq bench m.tflite --on pi@raspberrypi --on pi@kitchen
      edgeq bench m.tflite --json - | jq '.measurements[0].median_ms'
    """
    if hosts:
        _bench_on(hosts, models, runtimes, threads, seconds, json_path)
        return
    with Progress() as progress:
        result = bench(models, runtimes=runtimes, threads=threads, seconds=seconds, progress=progress)
    show(benchmark_lines(result), result.to_json(), json_path)


def _bench_on(
    hosts: tuple[str, ...],
    models: tuple[str, ...],
    runtimes: tuple[str, ...],
    threads: tuple[int, ...],
    seconds: float,
    json_path: str | None,
) -> None:
    """Measure on devices, side by side; exits with 2 if one of them failed."""
    with Progress() as progress:
        outcomes = bench_devices(models, hosts, runtimes=runtimes, threads=threads, seconds=seconds, progress=progress)
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
