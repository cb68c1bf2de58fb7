"""A sweep as text for the terminal, and the words that its page shares with it."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Callable
from typing import Any

from edgeq.report.tables import table
from edgeq.report.wording import percent, points
from edgeq.sweeping import CellAccuracy, Status, Sweep, SweepCell

__all__ = ["PICKS", "dashed", "in_order", "megabytes", "milliseconds", "pick_lines", "sweep_lines", "sweep_verdict"]

PICKS = {"most_accurate": "most accurate", "fastest": "fastest", "best_trade": "best trade"}
"""What the picks are called."""

_HEADING = (" network", "", "top-1", "95 %", "agree", "ms", "p90", "MB", "RAM")
_SHORTER = (("mobilenet_", ""), ("_minimalistic", "_mini"))  # names in the table, which would be too wide
_ORDER = (Status.FINISHED, Status.STOPPED, Status.WAITING, Status.OVER_LIMIT, Status.UNUSABLE)


def sweep_lines(sweep: Sweep, width: int | None = None) -> list[str]:
    """Format all cells as a table, the picks, and what was not trained and why.

    Args:
        sweep: the result to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    cells = in_order(sweep)
    shown = [cell for cell in cells if cell.status == Status.FINISHED]
    lines = table([_HEADING, *(_row(cell, sweep) for cell in shown)], width)
    legend = (
        f"*: on the Pareto front. top-1, its interval and agreement with FP32 in %, on {sweep.validation_photos} "
        "validation photos. ms: median latency. MB: size. RAM: peak memory of the process, in MB."
    )
    if any(_is_emulated(cell) for cell in shown):
        legend += " ~: emulated, not the latency of a real board."
    lines += ["", *textwrap.wrap(legend, width)]
    others = [cell for cell in cells if cell.status != Status.FINISHED]
    if others:
        lines += ["", "Not finished:"]
        for cell in others:
            lines += textwrap.wrap(f"{cell.name}: {_why(cell)}", width, initial_indent="  ", subsequent_indent="    ")
    said = [*pick_lines(sweep), *(f"Note: {note}." for note in sweep.notes)]
    return [*lines, "", *(line for text in said for line in textwrap.wrap(text, width, subsequent_indent="  "))]


def pick_lines(sweep: Sweep) -> list[str]:
    """Describe each pick in a sentence, with its accuracy on the test photos."""
    if sweep.picks is None:
        return []
    lines = []
    for key, title in PICKS.items():
        name = getattr(sweep.picks, key)
        if name is None:
            lines.append(f"{title.capitalize()}: {_no_fastest(sweep)}")
            continue
        cell = sweep.cell(name)
        text = f"{title.capitalize()}: {cell.name}, {milliseconds(cell.latency_ms)} ms"
        if cell.test:
            text += f", test accuracy {_with_interval(cell.test)} on {cell.test.images} photos"
        lines.append(f"{text}.")
    return lines


def sweep_verdict(sweep: Sweep) -> str:
    """Summarize the sweep in one sentence: the most accurate cell, with its test accuracy and its latency."""
    if sweep.picks is None:
        return "No cell was finished."
    cell = sweep.cell(sweep.picks.most_accurate)
    measured = cell.test or cell.validation
    assert measured is not None
    which = "test" if cell.test else "validation"
    within = (
        "within the limits "
        if any(sweep.settings.get(name) for name in ("--max-ms", "--max-bytes", "--max-ram"))
        else ""
    )
    return (
        f"The most accurate {within}of {len(sweep.cells)} cells is {cell.name}: {_with_interval(measured)} on "
        f"{measured.images} {which} photos, at {milliseconds(cell.latency_ms)} ms."
    )


def in_order(sweep: Sweep) -> list[SweepCell]:
    """Return the cells: the finished ones first, the most accurate first, then the others by status."""
    return sorted(sweep.cells, key=lambda cell: (_ORDER.index(cell.status), -(cell.top1 or cell.float_top1 or 0)))


def dashed(show: Callable[[Any], str]) -> Callable[[Any], str]:
    """Return a function that formats None as a dash, and everything else as `show` does."""
    return lambda value: "-" if value is None else show(value)


def milliseconds(value: float | None) -> str:
    """Format a latency with three digits, without the unit."""
    if value is None:
        return "-"
    return f"{value:.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def megabytes(value: int | None) -> str:
    """Format an amount of memory."""
    return "-" if value is None else f"{value / 1e6:.0f} MB"


def _with_interval(accuracy: CellAccuracy) -> str:
    low, high = (100 * end for end in accuracy.top1_ci95)
    return f"{percent(accuracy.top1)} (95 % interval {low:.1f} to {high:.1f})"


def _is_emulated(cell: SweepCell) -> bool:
    return any(latency.emulated_by for latency in cell.latencies)


def _row(cell: SweepCell, sweep: Sweep) -> tuple[str, ...]:
    accuracy = cell.validation
    assert accuracy is not None
    low, high = (100 * end for end in accuracy.top1_ci95)
    emulated = "~" if _is_emulated(cell) else ""
    network = cell.name.removesuffix(f"_{cell.format}")
    for long, short in _SHORTER:
        network = network.replace(long, short)
    return (
        ("*" if cell.name in sweep.front else " ") + network,
        cell.format,
        points(accuracy.top1),
        f"{low:.1f}-{high:.1f}",
        points(accuracy.agreement),
        emulated + milliseconds(cell.latency_ms),
        emulated + milliseconds(cell.p90_ms),
        dashed(lambda size_bytes: f"{size_bytes / 1e6:.2f}")(cell.size_bytes),
        megabytes(cell.peak_rss_bytes).removesuffix(" MB"),
    )


def _why(cell: SweepCell) -> str:
    """Say why a cell is not finished, with what is known of its accuracy."""
    so_far = "" if cell.float_top1 is None else f" (validation accuracy so far {percent(cell.float_top1)})"
    return f"{cell.reason or cell.status}{so_far}"


def _no_fastest(sweep: Sweep) -> str:
    """Say which cell comes nearest to the wanted accuracy."""
    assert sweep.picks is not None
    nearest = sweep.cell(sweep.picks.most_accurate)
    return f"no cell reaches the wanted accuracy; the nearest is {nearest.name} with {percent(nearest.top1)}."
