"""The summary of a network, as text for the terminal."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence

from edgeq.networks.sizes import Block, NetworkSummary
from edgeq.report.tables import table

__all__ = ["summary_lines"]

_HEADING = ("block", "operators", "output", "parameters", "mult-adds")
_MOST_LAYERS = 5
_NUMBERS = 2  # columns at the end
_FEWEST_OPERATORS = 12  # characters; a narrower column of operators is omitted
_LEGEND = {
    "1x1": "1x1: convolution of that size",
    "dw ": "dw: depthwise",
    "/2": "/2: stride 2",
    "SE": "SE: squeeze and excitation",
}


def summary_lines(summary: NetworkSummary, width: int | None = None) -> list[str]:
    """Format a network's blocks and totals.

    Args:
        summary: the counts to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    rows = [
        _HEADING,
        *map(_row, summary.blocks),
        ("total", "", "", f"{summary.parameters:,}", _millions(summary.multiply_adds)),
        ("learned", "", "", f"{summary.trainable_parameters:,}", ""),
    ]
    kinds = " ".join(block.kind for block in summary.blocks)
    terms = [meaning for mark, meaning in _LEGEND.items() if mark in kinds]
    notes = ["; ".join(["Mult-adds: multiply-adds for one image, in millions (M)", *terms]) + "."]
    if summary.not_counted:
        names = ", ".join(summary.not_counted[:_MOST_LAYERS])
        more = len(summary.not_counted) - _MOST_LAYERS
        names += f" and {more} more" if more > 0 else ""
        notes.append(f"Note: the multiply-adds of {names} are not counted, because edgeq has no rule for these layers.")
    lines = [f"{summary.name}, input {_shape(summary.input_shape)}", "", *_columns(rows, width), ""]
    for note in notes:
        lines += textwrap.wrap(note, width, subsequent_indent=" " * 6 * note.startswith("Note"), break_long_words=False)
    return lines


def _row(block: Block) -> tuple[str, ...]:
    return (
        block.name,
        block.kind,
        _shape(block.output_shape),
        f"{block.parameters:,}" if block.parameters else "-",
        _millions(block.multiply_adds),
    )


def _columns(rows: Sequence[tuple[str, ...]], width: int) -> list[str]:
    """Lay out a table without shortening numbers: on a narrow terminal the other columns shrink, operators first."""
    words = [row[:-_NUMBERS] for row in rows]
    digits = [max(len(row[column]) for row in rows) for column in range(-_NUMBERS, 0)]
    room = width - sum(2 + w for w in digits)
    names, _, outputs = (max(len(row[column]) for row in words) for column in range(3))
    if names + outputs + _FEWEST_OPERATORS + 4 > room:
        words = [(name, output) for name, _, output in words]
    starts = table(words, room)
    longest = max(map(len, starts))
    return [
        f"{start:<{longest}}" + "".join(f"  {n:>{w}}" for n, w in zip(row[-_NUMBERS:], digits, strict=True)).rstrip()
        for start, row in zip(starts, rows, strict=True)
    ]


def _shape(sides: Sequence[int | None]) -> str:
    return "x".join("?" if side is None else str(side) for side in sides) or "-"


def _millions(multiply_adds: int) -> str:
    return f"{multiply_adds / 1e6:.1f} M" if multiply_adds else "-"
