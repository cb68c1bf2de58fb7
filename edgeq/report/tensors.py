"""Models of plain tensors as text: a comparison, its Markdown, and a model's outputs."""

from __future__ import annotations

import shutil
import textwrap
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from edgeq.comparison import TensorComparison
from edgeq.inference.tensors import TensorAnswer
from edgeq.report.layers import layer_lines
from edgeq.report.tables import size, table
from edgeq.report.wording import decibels

__all__ = ["answer_lines", "output_rows", "sample_rows", "tensor_comparison_lines", "tensor_verdict"]

_MOST_SAMPLES = 5


def tensor_verdict(comparison: TensorComparison) -> str:
    """Sum up a comparison in one sentence without a full stop."""
    noun = "sample" if comparison.samples == 1 else "samples"
    worst = min(comparison.outputs, key=lambda o: np.inf if o.sqnr_db is None else o.sqnr_db)
    if worst.sqnr_db is None:
        return f"no output differs on {comparison.samples} {noun}"
    which = f"the lowest SQNR of {len(comparison.outputs)} outputs is" if len(comparison.outputs) > 1 else "the SQNR is"
    where = f" ({worst.name})" if len(comparison.outputs) > 1 else ""
    return f"{which} {decibels(worst.sqnr_db)}{where} on {comparison.samples} {noun}"


def tensor_comparison_lines(comparison: TensorComparison, width: int | None = None) -> list[str]:
    """Format a comparison as lines of text.

    Args:
        comparison: the result to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    pair = comparison.reference, comparison.candidate
    rows = [
        ("", "reference", "candidate"),
        ("file", *(Path(m.path).name for m in pair)),
        ("latency", *(f"{m.latency_ms:.2f} ms" for m in pair)),
        ("size", *(size(m.size_bytes) for m in pair)),
        ("runtime", *(m.runtime for m in pair)),
    ]
    lines = [*table(rows, width), "", *table(output_rows(comparison), width)]
    shown = comparison.worst[:_MOST_SAMPLES]
    first = f", the {len(shown)} worst" if len(shown) < len(comparison.worst) else ", the worst first"
    lines += ["", f"{comparison.samples} samples{first}:" if comparison.samples > 1 else "1 sample:"]
    lines += table(sample_rows(comparison, _MOST_SAMPLES), width)
    if comparison.layers is not None:
        lines += ["", *layer_lines(comparison.layers, width)]
    for word, found in (("Fault", comparison.faults), ("Try", comparison.advice)):
        for text in found:
            lines += textwrap.wrap(f"{word}: {text}.", width, subsequent_indent=" " * 6, break_long_words=False)
    lines.append("")
    for note in comparison.notes:
        lines += textwrap.wrap(f"Note: {note}.", width, subsequent_indent=" " * 6, break_long_words=False)
    legend = "SQNR: power of the reference's output over the power of the difference; higher is better."
    return [*lines, *textwrap.wrap(legend, width)]


def output_rows(comparison: TensorComparison) -> list[tuple[str, ...]]:
    """Return the table of outputs with its heading."""
    heading = ("output", "shape", "SQNR", "cosine", "mean diff.", "max diff.", "range")
    return [
        heading,
        *(
            (
                o.name,
                "x".join(map(str, o.shape)),
                decibels(o.sqnr_db),
                f"{o.cosine:.5f}",
                f"{o.mean_difference:.3g}",
                f"{o.max_difference:.3g}",
                f"{o.low:.4g} to {o.high:.4g}",
            )
            for o in comparison.outputs
        ),
    ]


def sample_rows(comparison: TensorComparison, most: int) -> list[tuple[str, ...]]:
    """Return the table of the worst samples with its heading."""
    several = len(comparison.outputs) > 1
    names = [f"SQNR of {output.name}" for output in comparison.outputs] if several else ["SQNR"]
    rows = [
        (Path(s.file).name, f"{s.error:.4f}", *map(decibels, s.sqnr_db), f"{max(s.max_difference):.3g}")
        for s in comparison.worst[:most]
    ]
    return [("sample", "error", *names, "max diff."), *rows]


def answer_lines(answers: Sequence[TensorAnswer], width: int | None = None) -> list[str]:
    """Format the outputs of a model for several samples as one table; answers with an error are left out.

    Args:
        answers: the answers.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    rows: list[tuple[str, ...]] = [("sample", "output", "shape", "min", "max", "mean")]
    devices = len({answer.device for answer in answers}) > 1
    for answer in answers:
        name = Path(answer.file or "").name + (f" on {answer.device}" if devices else "")
        for output, v in answer.outputs.items():
            numbers = [f"{x:.5g}" for x in (v.min(), v.max(), v.mean())] if v.size else ["-"] * 3
            rows.append((name, output, "x".join(map(str, v.shape)) or "scalar", *numbers))
            name = ""
    return table(rows, width) if len(rows) > 1 else []
