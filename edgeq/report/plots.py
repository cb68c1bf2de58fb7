"""Charts as inline SVG, which use the page's colours and typeface."""

from __future__ import annotations

import html
import io
import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from edgeq.comparison import Histogram, LayerDrift

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["COLOURS", "chart_figure", "histogram_chart", "inline_svg", "sqnr_chart", "ticks_of_grid", "worst_alone"]

COLOURS = {
    "ink": "#0a0b01",
    "muted": "#0a0b02",
    "line": "#0a0b03",
    "reference": "#0a0b04",
    "candidate": "#0a0b05",
    "alert": "#0a0b06",
}
"""Placeholder colours, each replaced by a CSS variable of the page, which follows the light or dark setting."""

_POINTS_PER_INCH = 72
_MOST_TICKS = 64
_ZERO_COUNT = 0.7  # where a bar of the logarithmic axis stands
_STYLE = {
    "svg.fonttype": "none",  # text stays text, in the page's typeface
    "svg.hashsalt": "edgeq",  # same chart, same bytes
    "text.parse_math": False,
    "text.color": COLOURS["ink"],
    "font.size": 10,
    "axes.edgecolor": COLOURS["line"],
    "axes.labelcolor": COLOURS["muted"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "grid.color": COLOURS["line"],
    "grid.linewidth": 0.6,
    "xtick.color": COLOURS["line"],
    "ytick.color": COLOURS["line"],
    "xtick.labelcolor": COLOURS["muted"],
    "ytick.labelcolor": COLOURS["muted"],
    "legend.frameon": False,
    "legend.handlelength": 1.4,
}


def worst_alone(layers: Sequence[LayerDrift]) -> LayerDrift | None:
    """Return the layer with the lowest SQNR alone; None if no layer adds noise."""
    noisy = [layer for layer in layers if layer.alone_sqnr_db is not None]
    return min(noisy, key=lambda layer: (_decibels(layer.alone_sqnr_db), layer.index), default=None)


def sqnr_chart(layers: Sequence[LayerDrift], name: str, width: int) -> str:
    """Plot each layer's SQNR, alone and accumulated, as ``<svg>``, and mark the worst layer.

    Args:
        layers: layers in any order; they are drawn by index. A layer without noise leaves a gap.
        name: prefix for the ids in the chart; unique in the page.
        width: width in CSS pixels at which the text has its nominal size.
    """
    along = sorted(layers, key=lambda layer: layer.index)
    places = [layer.index for layer in along]
    with chart_figure(width, 0.36 * width if width > 500 else 0.62 * width) as figure:
        axes = figure.subplots()
        for label, colour, values in (
            ("accumulated", "reference", [_decibels(layer.sqnr_db) for layer in along]),
            ("alone", "candidate", [_decibels(layer.alone_sqnr_db) for layer in along]),
        ):
            axes.plot(places, values, color=COLOURS[colour], linewidth=1.4, marker=".", markersize=4, label=label)
        if worst := worst_alone(layers):
            place = (worst.index, _decibels(worst.alone_sqnr_db))
            axes.plot(*place, "o", markersize=9, markerfacecolor="none", color=COLOURS["alert"], label="worst alone")
        axes.set(xlabel="operator, from input to output", ylabel="SQNR, dB")
        axes.xaxis.get_major_locator().set_params(integer=True)
        figure.legend(loc="outside upper left", ncols=3)
        title = "SQNR of every layer, from input to output; the table below has the numbers"
        return inline_svg(figure, name, title)


def histogram_chart(histogram: Histogram, name: str, title: str, width: int = 320) -> str:
    """Plot the distribution of an activation in both models, over the INT8 model's grid, as ``<svg>``.

    Args:
        histogram: counts to plot, on a logarithmic axis.
        name: prefix for the ids in the chart; unique in the page.
        title: text alternative for screen readers.
        width: width in CSS pixels at which the text has its nominal size.
    """
    from matplotlib.ticker import EngFormatter, NullLocator

    h = histogram
    step = (h.high - h.low) / len(h.reference)
    edges = [h.low + step * i for i in range(len(h.reference))] + [h.high]
    with chart_figure(width, 0.6 * width) as figure:
        axes = figure.subplots()
        axes.set_yscale("log", nonpositive="clip")
        axes.stairs(h.reference, edges, fill=True, baseline=_ZERO_COUNT, color=COLOURS["reference"], alpha=0.45)
        axes.stairs(h.candidate, edges, baseline=_ZERO_COUNT, color=COLOURS["candidate"], linewidth=1.2)
        for end in (h.grid_low, h.grid_high):
            axes.axvline(end, color=COLOURS["alert"], linewidth=1, linestyle=(0, (3, 2)))
        ticks, _ = ticks_of_grid(h)
        below = axes.get_xaxis_transform()
        axes.vlines(ticks, -0.035, 0, transform=below, color=COLOURS["muted"], linewidth=0.5, clip_on=False)
        axes.tick_params(axis="x", length=0, pad=8)
        axes.set(xlabel="activation", ylabel="values", ylim=(_ZERO_COUNT, None))
        axes.xaxis.get_major_locator().set_params(nbins=6)
        axes.yaxis.set_major_formatter(EngFormatter(sep=""))
        axes.yaxis.set_minor_locator(NullLocator())
        return inline_svg(figure, name, title)


def ticks_of_grid(histogram: Histogram) -> tuple[list[float], int]:
    """Return the grid values to mark, and the number of steps between two marks: a power of 2, or 1 if all fit."""
    h = histogram
    steps = max(0, round((h.grid_high - h.grid_low) / h.scale)) if h.scale > 0 else 0
    every = 1
    while steps // every >= _MOST_TICKS:
        every *= 2
    return [h.grid_low + h.scale * i for i in range(0, steps + 1, every)], every


def _decibels(value: float | None) -> float:
    """Replace None and infinity by NaN, which leaves a gap in the line."""
    return math.nan if value is None or math.isinf(value) else value


@contextmanager
def chart_figure(width: float, height: float) -> Iterator[Any]:
    """Open a figure in the page's style, independent of the user's matplotlibrc."""
    import matplotlib as mpl
    from matplotlib.figure import Figure

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        yield Figure(figsize=(width / _POINTS_PER_INCH, height / _POINTS_PER_INCH), layout="constrained")


def inline_svg(figure: Figure, name: str, title: str) -> str:
    """Return a figure as an SVG element for a page."""
    file = io.StringIO()
    figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    drawing = file.getvalue()
    start, _, body = drawing[drawing.index("<svg") :].partition(">")
    box = re.search(r'viewBox="[^"]*"', start)
    assert box is not None
    # Of no use in a page, or, like a style for `*`, harmful.
    body = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>|<!--.*?-->", "", body, flags=re.DOTALL)
    body = re.sub(r'font-family: [^;"]+(; )?', "", body)
    body = re.sub(r'font: ([\d.]+px) [^;"]+', r"font-size: \1", body)  # the same of older releases
    # Every chart numbers its parts alike, but ids are the page's.
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', body))
    body = re.sub(r' id="([^"]+)"', lambda found: f' id="{name}-{found[1]}"' if found[1] in used else "", body)
    body = re.sub(r'(href="#|url\(#)', rf"\g<1>{name}-", body)
    for role, colour in COLOURS.items():
        body = body.replace(colour, f"var(--{role})")
    body = re.sub(r"\s*\n\s*", " ", body).replace("xlink:href", "href")
    label = f'<title id="{name}-title">{html.escape(title)}</title>'
    return f'<svg class="chart" {box[0]} role="img" aria-labelledby="{name}-title">{label}{body}'
