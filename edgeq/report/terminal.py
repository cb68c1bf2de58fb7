"""A comparison as text for the terminal."""

from __future__ import annotations

import math
import shutil
import textwrap
from collections.abc import Callable, Sequence
from pathlib import Path

from edgeq.comparison import Comparison, ModelResult
from edgeq.report.layers import layer_lines
from edgeq.report.tables import size, table
from edgeq.report.wording import answers, notes, percent

__all__ = ["comparison_lines"]

_MOST_FLIPS = 10
_MOST_CLASSES = 5


def comparison_lines(comparison: Comparison, width: int | None = None) -> list[str]:
    """Format a comparison as lines of text.

    Args:
        comparison: the result to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    lines = table(_models(comparison), width)
    lines += ["", *table(_drift(comparison), width)]
    if comparison.flips:
        shown = comparison.flips[:_MOST_FLIPS]
        noun = "flip" if comparison.flipped == 1 else "flips"
        lines += ["", f"{comparison.flipped} {noun}{_first(shown, comparison.flipped)}:"]
        rows = [(Path(flip.file).name, flip.label or "?", *answers(flip)) for flip in shown]
        lines += table([("image", "class", "reference", "candidate"), *rows], width)
    if any(drift.images > 1 for drift in comparison.classes):  # with one image per class, the flips show the same
        worst = comparison.classes[:_MOST_CLASSES]
        lines += ["", f"{len(comparison.classes)} classes with flips{_first(worst, len(comparison.classes))}:"]
        class_rows = [
            (c.label, str(c.images), *map(percent, (c.reference_top1, c.candidate_top1, c.agreement))) for c in worst
        ]
        lines += table([("class", "images", "reference", "candidate", "agreement"), *class_rows], width)
    if comparison.layers is not None:
        lines += ["", *layer_lines(comparison.layers, width)]
    for word, found in (("Fault", comparison.faults), ("Try", comparison.advice)):
        for text in found:
            lines += textwrap.wrap(f"{word}: {text}.", width, subsequent_indent=" " * 6, break_long_words=False)
    lines.append("")
    for note in notes(comparison):
        lines += textwrap.wrap(f"Note: {note}.", width, subsequent_indent=" " * 6, break_long_words=False)
    return lines


def _models(comparison: Comparison) -> list[tuple[str, str, str]]:
    def row(name: str, show: Callable[[ModelResult], str]) -> tuple[str, str, str]:
        return name, show(comparison.reference), show(comparison.candidate)

    return [
        ("", "reference", "candidate"),
        row("file", lambda m: Path(m.path).name),
        row("top-1", lambda m: percent(m.top1)),
        row("top-5", lambda m: percent(m.top5)),
        row("latency", lambda m: f"{m.latency_ms:.2f} ms"),
        row("size", lambda m: size(m.size_bytes)),
        row("runtime", lambda m: m.runtime),
    ]


def _drift(comparison: Comparison) -> list[tuple[str, str, str]]:
    c = comparison
    sqnr = "no difference" if c.sqnr_db is None or math.isinf(c.sqnr_db) else f"{c.sqnr_db:.1f} dB"
    drop, drop_interval = "-", ""
    if c.top1_drop is not None and c.top1_drop_ci95 is not None:
        drop = f"{100 * c.top1_drop:.1f} points"
        low, high = c.top1_drop_ci95
        drop_interval = f"{100 * low:.1f} to {100 * high:.1f} (McNemar p = {c.mcnemar_p:.2g})"
    low, high = c.agreement_ci95
    return [
        ("drift", "on 1 image" if c.images == 1 else f"on {c.images} images", "95 % interval"),
        ("top-1 agreement", percent(c.agreement), f"{100 * low:.1f} to {100 * high:.1f} %"),
        ("top-1 drop", drop, drop_interval),
        ("KL divergence, mean", f"{c.kl_mean:.4f}", ""),
        ("L1 of probabilities", f"{c.l1_mean:.4f}", ""),
        ("SQNR of outputs", sqnr, ""),
        ("ties for top-1", str(c.ties), ""),
    ]


def _first(shown: Sequence[object], count: int) -> str:
    return f", the {len(shown)} worst" if len(shown) < count else ""
