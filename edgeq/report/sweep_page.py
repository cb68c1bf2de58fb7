"""A sweep as an HTML page."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgeq.report.sweep import PICKS, dashed, in_order, megabytes, milliseconds, sweep_verdict
from edgeq.report.sweep_chart import sweep_chart
from edgeq.report.tables import size
from edgeq.report.template import WIDTHS, render
from edgeq.report.wording import percent
from edgeq.sweeping import CellLatency, Status, Sweep

__all__ = ["render_sweep"]

_COLUMNS: tuple[tuple[str, str, Callable[[Any], str]], ...] = (
    ("top-1", "validation.top1", percent),
    ("from", "validation.top1_ci95.0", percent),
    ("to", "validation.top1_ci95.1", percent),
    ("agreement", "validation.agreement", percent),
    ("median, ms", "latency_ms", milliseconds),
    ("p90, ms", "p90_ms", milliseconds),
    ("size", "size_bytes", dashed(size)),
    ("memory", "peak_rss_bytes", megabytes),
    ("epochs", "epochs", str),
)


def render_sweep(sweep: Sweep, command: str | None) -> str:
    """Return the page of a sweep.

    Args:
        sweep: the result to show.
        command: command line to show on the page.
    """
    from markupsafe import Markup

    places = {cell.name: place for place, cell in enumerate(sweep.cells)}
    cells = in_order(sweep)
    plotted = any(cell.top1 is not None or cell.float_top1 is not None for cell in cells)
    return render(
        "sweep.html.jinja",
        sweep.to_json(),
        title="edgeq sweep",
        s=sweep,
        command=command,
        verdict=sweep_verdict(sweep).replace(" %", "\N{NO-BREAK SPACE}%"),
        columns=_COLUMNS,
        finished=[cell for cell in cells if cell.status == Status.FINISHED],
        others=[cell for cell in cells if cell.status != Status.FINISHED],
        places=places,
        picks=_picks(sweep),
        picks_of={name: [title for title, pick in _picks(sweep) if pick == name] for name in places},
        charts=[(kind, Markup(sweep_chart(sweep, f"sweep-{kind}", width))) for kind, width in WIDTHS if plotted],
        boards=_boards(sweep),
        milliseconds=milliseconds,
        seconds=lambda value: f"{value:.0f} s",
        size=dashed(size),
    )


def _picks(sweep: Sweep) -> list[tuple[str, str | None]]:
    """Return the picks: what each is called, and the name of its cell, or None if there is none."""
    return [(title, getattr(sweep.picks, key)) for key, title in PICKS.items()] if sweep.picks else []


def _boards(sweep: Sweep) -> list[CellLatency]:
    """Return one measurement of each board, which describes it."""
    return list({latency.device: latency for cell in sweep.cells for latency in cell.latencies}.values())
