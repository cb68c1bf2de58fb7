"""The chart of a sweep: accuracy against latency, with intervals, the front and the picks."""

from __future__ import annotations

from typing import Any

from edgeq.report.plots import COLOURS, chart_figure, inline_svg
from edgeq.report.sweep import PICKS
from edgeq.sweeping import Status, Sweep, SweepCell

__all__ = ["sweep_chart"]

_MARKERS = {"fp32": "s", "int8": "o", "fp16": "D", "dynamic": "^", "int16x8": "v"}
_LOGARITHMIC = 4.0  # ratio of the largest to the smallest latency from which the axis is logarithmic


def sweep_chart(sweep: Sweep, name: str, width: int) -> str:
    """Plot each cell's validation accuracy against its latency, as ``<svg>``.

    Args:
        sweep: the result to show.
        name: prefix for the ids in the chart; unique in the page.
        width: width in CSS pixels at which the text has its nominal size.
    """
    with chart_figure(width, 0.5 * width if width > 500 else 0.95 * width) as figure:
        axes = figure.subplots()
        _draw_cells(axes, sweep)
        _draw_front(axes, sweep)
        _draw_limits(axes, sweep)
        times = [cell.latency_ms for cell in sweep.cells if cell.latency_ms and _accuracy(cell) is not None]
        if times and max(times) > _LOGARITHMIC * min(times):
            _make_logarithmic(axes)
        axes.margins(x=0.12, y=0.12)
        axes.grid(visible=True, axis="x")
        axes.set(xlabel="median latency, ms", ylabel="validation top-1, %")
        figure.legend(loc="outside upper left", ncols=4 if width > 500 else 2)
        return inline_svg(figure, name, "Validation accuracy against latency; the table below has the numbers")


def _accuracy(cell: SweepCell) -> float | None:
    """Return the file's accuracy or, for a cell that was stopped, that of the float network so far."""
    return cell.float_top1 if cell.status == Status.STOPPED else cell.top1


def _draw_cells(axes: Any, sweep: Sweep) -> None:
    """Draw finished cells with their intervals, one marker per format, and stopped cells hollow."""
    for form, marker in _MARKERS.items():
        done = [cell for cell in sweep.cells if cell.format == form and cell.status == Status.FINISHED]
        if done:
            top1 = [100 * (cell.top1 or 0) for cell in done]
            intervals = [cell.validation.top1_ci95 for cell in done if cell.validation]
            errors = [
                [value - 100 * low for value, (low, _) in zip(top1, intervals, strict=True)],
                [100 * high - value for value, (_, high) in zip(top1, intervals, strict=True)],
            ]
            axes.errorbar(
                [cell.latency_ms for cell in done],
                top1,
                yerr=errors,
                fmt=marker,
                markersize=6,
                color=COLOURS["candidate"],
                ecolor=COLOURS["reference"],
                elinewidth=1,
                label=form,
            )
        stopped = [cell for cell in sweep.cells if cell.format == form and cell.status == Status.STOPPED]
        if stopped:
            axes.plot(
                [cell.latency_ms for cell in stopped],
                [100 * (cell.float_top1 or 0) for cell in stopped],
                marker,
                markersize=6,
                markerfacecolor="none",
                color=COLOURS["reference"],
                label=f"{form}, stopped early",
            )


def _draw_front(axes: Any, sweep: Sweep) -> None:
    """Draw the front as a line, and name the picks."""
    front = [sweep.cell(name) for name in sweep.front]
    if len(front) > 1:
        axes.plot(
            [cell.latency_ms for cell in front],
            [100 * (cell.top1 or 0) for cell in front],
            color=COLOURS["candidate"],
            linewidth=1,
            zorder=1,
            label="Pareto front",
        )
    named: dict[str, list[str]] = {}
    for key, title in PICKS.items():
        name = getattr(sweep.picks, key, None)
        if name:
            named.setdefault(name, []).append(title)
    for name, titles in named.items():
        cell = sweep.cell(name)
        place = (cell.latency_ms, 100 * (cell.top1 or 0))
        axes.plot(*place, "o", markersize=13, markerfacecolor="none", color=COLOURS["alert"])
        axes.annotate(
            ", ".join(titles), place, (0, 12), textcoords="offset points", ha="center", color=COLOURS["alert"]
        )


def _draw_limits(axes: Any, sweep: Sweep) -> None:
    """Draw the largest latency and the smallest accuracy as dashed lines."""
    dashed: dict[str, Any] = {"color": COLOURS["alert"], "linewidth": 1, "linestyle": (0, (3, 2))}
    if sweep.settings.get("--max-ms"):
        axes.axvline(sweep.settings["--max-ms"], **dashed)
    if sweep.settings.get("--min-top1"):
        axes.axhline(100 * sweep.settings["--min-top1"], **dashed)


def _make_logarithmic(axes: Any) -> None:
    """Make the latency axis logarithmic, with plain numbers at its ticks."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullLocator

    axes.set_xscale("log")
    axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_locator(NullLocator())
