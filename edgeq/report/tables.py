"""Tables that fit the terminal, and readable file sizes. A board imports only this module of the reports."""

from __future__ import annotations

from collections.abc import Sequence

__all__ = ["size", "table"]

_NARROWEST = 4  # characters to which a column shrinks on a narrow terminal


def table(rows: Sequence[Sequence[str]], width: int) -> list[str]:
    """Lay out rows in columns, with the heading as the first row; the widest columns shrink to fit the width."""
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    gap = 2
    while sum(widths) + gap * (len(widths) - 1) > width and max(widths) > _NARROWEST:
        widths[widths.index(max(widths))] -= 1
    return [
        (" " * gap).join(f"{_shorten(cell, w):<{w}}" for cell, w in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]


def size(size_bytes: int) -> str:
    """Format a file's size."""
    return f"{size_bytes / 1e6:.2f} MB" if size_bytes >= 1e5 else f"{size_bytes / 1e3:.1f} kB"


def _shorten(text: str, width: int) -> str:
    if len(text) <= width:
        return text
    if text.endswith(".tflite"):  # the end of a model's name tells FP32 from INT8
        return "…" + text[len(text) - width + 1 :]
    return text[: width - 1] + "…"
