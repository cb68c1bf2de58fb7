"""Benchmark results and the machine, as text for the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Mapping, Sequence
from itertools import groupby
from pathlib import Path

from edgeq.benchmarking import Benchmark, Measurement
from edgeq.execution.machine import Machine
from edgeq.report.tables import size, table

__all__ = ["benchmark_lines", "fleet_lines", "machine_line", "machine_notes"]

_HEADING = ("kernels", "threads", "median", "p90", "p99", "min", "img/s", "load", "first", "RSS")


def benchmark_lines(benchmark: Benchmark, width: int | None = None) -> list[str]:
    """Format each model's measurements as a table, followed by notes on the machine.

    Args:
        benchmark: the result to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    lines = textwrap.wrap(machine_line(benchmark.before), width)
    first = {
        _way(m): m for m in reversed(benchmark.measurements)
    }  # the first model's measurement in each configuration
    several = len({m.model for m in benchmark.measurements}) > 1
    for (model, runtime), group in groupby(benchmark.measurements, lambda m: (m.model, m.runtime)):
        measurements = list(group)
        lines += ["", f"{Path(model).name}  {size(measurements[0].size_bytes)}  {runtime}"]
        rows = [_row(m) + ((f"{m.median_ms / first[_way(m)].median_ms:.2f}",) if several else ()) for m in measurements]
        lines += table([_HEADING + (("ratio",) if several else ()), *rows], width)
    lines.append("")
    notes = ["Times in ms. load: reading the file and preparing the interpreter. RSS: peak memory of the process."]
    if several:
        notes.append("ratio: median divided by the first model's median in the same configuration.")
    notes += [f"Note: {note}." for note in _notes(benchmark)]
    for note in notes:
        lines += textwrap.wrap(note, width, subsequent_indent=" " * 6 * note.startswith("Note"), break_long_words=False)
    return lines


def fleet_lines(benchmarks: Mapping[str, Benchmark], width: int | None = None) -> list[str]:
    """Format the fastest configuration of each model on each board as one table.

    Args:
        benchmarks: results by the name of the board.
        width: terminal width in characters; None reads it from the terminal.
    """
    rows = [("device", "model", "fastest with", "median", "p99", "img/s")]
    for device, benchmark in benchmarks.items():
        for model, group in groupby(benchmark.measurements, lambda m: m.model):
            m = min(group, key=lambda m: m.median_ms)
            way = f"{m.runtime.partition(' ')[0]}, {m.kernels}, {m.threads} thread{'s' if m.threads > 1 else ''}"
            rows.append((device, Path(model).name, way, _ms(m.median_ms), _ms(m.p99_ms), _rate(m)))
    return table(rows, width or shutil.get_terminal_size().columns)


def machine_line(machine: Machine) -> str:
    """Describe a machine in one line."""
    memory = f", {machine.memory_bytes / 1e9:.1f} GB" if machine.memory_bytes else ""
    cores = f"{machine.cores} core{'s' if machine.cores > 1 else ''}"
    name = f"{machine.model}, " if machine.model else ""
    return f"{name}{machine.architecture}, {cores}{memory}, {machine.system}, Python {machine.python}"


def machine_notes(machine: Machine) -> list[str]:
    """List the causes that make a machine's times less reliable, as sentences without a full stop."""
    notes = []
    if machine.emulated_by:
        notes.append(
            f"this {machine.architecture} machine is emulated on {machine.emulated_by}; a real board has other times"
        )
    if machine.governor and machine.governor != "performance":
        notes.append(f"the CPU frequency governor is {machine.governor}; with performance the times vary less")
    if machine.throttling:
        notes.append(f"the firmware reports: {', '.join(machine.throttling)}")
    return notes


def _notes(benchmark: Benchmark) -> Sequence[str]:
    before, after = benchmark.before, benchmark.after
    notes = list(dict.fromkeys([*machine_notes(before), *machine_notes(after)]))
    if before.temperature_c is not None and after.temperature_c is not None:
        notes.append(
            f"the processor temperature changed from {before.temperature_c:.1f} to {after.temperature_c:.1f} °C"
        )
    reasons = dict.fromkeys((failure.runtime, failure.reason) for failure in benchmark.failures)
    return notes + [f"{runtime} could not be measured: {reason}" for runtime, reason in reasons]


def _way(m: Measurement) -> tuple[str, str, int]:
    return m.runtime, m.kernels, m.threads


def _row(m: Measurement) -> tuple[str, ...]:
    times = (_ms(t) for t in (m.median_ms, m.p90_ms, m.p99_ms, m.min_ms))
    memory = f"{m.peak_rss_bytes / 1e6:.0f} MB" if m.peak_rss_bytes else "-"
    return (m.kernels, str(m.threads), *times, _rate(m), _ms(m.load_ms), _ms(m.first_ms), memory)


def _rate(m: Measurement) -> str:
    return f"{m.images_per_s:.{0 if m.images_per_s >= 100 else 1}f}"


def _ms(time_ms: float) -> str:
    return f"{time_ms:.{0 if time_ms >= 100 else 1 if time_ms >= 10 else 2}f}"
