"""A comparison as Markdown, for the summary of a CI job or a comment on a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Sequence
from pathlib import Path

from edgeq.comparison import Comparison, TensorComparison
from edgeq.files import write_text
from edgeq.report.tables import size
from edgeq.report.tensors import output_rows, sample_rows, tensor_verdict
from edgeq.report.wording import answers, decibels, model_names, notes, percent, points, sentence, verdict

__all__ = ["markdown", "write_markdown"]

_MOST_FLIPS = 20
_MOST_SAMPLES = 20
_SPECIAL = re.compile(r"([\\`*_\[\]|~])")


def write_markdown(
    comparison: Comparison | TensorComparison, path: str | Path, missed: Sequence[str] | None = None
) -> None:
    """Write a comparison as a Markdown file. An existing file is replaced as a whole or not at all.

    Args:
        comparison: the measured comparison.
        path: the file to write.
        missed: the reasons why limits are missed, from `Comparison.missed_limits`; None if there were no limits.

    Raises:
        InputError: the file cannot be written.
    """
    write_text(Path(path), markdown(comparison, missed))


def markdown(comparison: Comparison | TensorComparison, missed: Sequence[str] | None = None) -> str:
    """Return a comparison as GitHub-flavored Markdown: verdict, tables, flips and notes.

    File names and labels are escaped, so that they cannot add markup.

    Args:
        comparison: the measured comparison.
        missed: the reasons why limits are missed; None if there were no limits.
    """
    names = tuple(name.capitalize() if name.islower() else name for name in model_names(comparison))
    heading = "## Quantization drift"
    if missed is not None:
        heading += ": limits missed" if missed else ": within limits"
    said = tensor_verdict(comparison) if isinstance(comparison, TensorComparison) else verdict(comparison)
    blocks = [heading, _escape(sentence(said))]
    if missed:
        blocks.append("\n".join(f"- **Missed:** {_escape(sentence(reason))}" for reason in missed))
    if isinstance(comparison, TensorComparison):
        blocks += [_table(output_rows(comparison)), _table(_models(comparison, names))]
        blocks.append(_table(sample_rows(comparison, _MOST_SAMPLES)))
        found = [*comparison.faults, *comparison.advice, *comparison.notes]
        return "\n\n".join([*blocks, *_remarks(found)]) + "\n"
    blocks += [_table(_drift(comparison)), _table(_models(comparison, names))]
    if comparison.flips:
        blocks.append(_flips(comparison, names))
    found = [*comparison.faults, *comparison.advice, *notes(comparison)]
    return "\n\n".join([*blocks, *_remarks(found)]) + "\n"


def _remarks(found: Sequence[str]) -> list[str]:
    """Return a list of sentences as one block, or nothing."""
    return ["\n".join(f"- {_escape(sentence(text))}" for text in found)] if found else []


def _drift(comparison: Comparison) -> list[tuple[str, str, str]]:
    c = comparison
    rows = [
        ("Measure", "Value", "95 % interval"),
        ("top-1 agreement", percent(c.agreement), _interval(c.agreement_ci95)),
    ]
    if c.top1_drop_ci95 is not None:
        rows.append(("top-1 drop, points", points(c.top1_drop), _interval(c.top1_drop_ci95)))
    return [
        *rows,
        ("L1 of probabilities, mean", f"{c.l1_mean:.4f}", ""),
        ("KL divergence, mean", f"{c.kl_mean:.4f}", ""),
        ("SQNR of outputs", decibels(c.sqnr_db), ""),
        ("images", str(c.images), ""),
    ]


def _interval(ends: tuple[float, float]) -> str:
    return " to ".join(points(end) for end in ends)


def _models(comparison: Comparison | TensorComparison, names: tuple[str, ...]) -> list[tuple[str, str, str]]:
    pair = (comparison.reference, comparison.candidate)
    rows = [("Model", *names), ("file", *(Path(model.path).name for model in pair))]
    if isinstance(comparison, Comparison):
        rows += [(f"top-{k}", *(percent(getattr(model, f"top{k}")) for model in pair)) for k in (1, 5)]
    rows.append(("size", *(size(model.size_bytes) for model in pair)))
    rows.append(("latency on this machine", *(f"{model.latency_ms:.2f} ms" for model in pair)))
    return [(row[0], row[1], row[2]) for row in rows]


def _flips(comparison: Comparison, names: tuple[str, ...]) -> str:
    shown = comparison.flips[:_MOST_FLIPS]
    noun = "image" if comparison.flipped == 1 else "images"
    count = f"{comparison.flipped} {noun} with a different top-1 class"
    if len(shown) < comparison.flipped:
        count += f", the {len(shown)} with the largest margins"
    rows = [(Path(flip.file).name, flip.label or "unknown", *answers(flip)) for flip in shown]
    table = _table([("Image", "Class", *names), *rows])
    return f"<details><summary>{count}</summary>\n\n{table}\n\n</details>"


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = ["| " + " | ".join(_escape(cell) for cell in row) + " |" for row in rows]
    return "\n".join([lines[0], "|" + " --- |" * len(rows[0]), *lines[1:]])


def _escape(text: str) -> str:
    """Escape what Markdown and HTML would interpret; line breaks become spaces."""
    return _SPECIAL.sub(r"\\\1", html.escape(" ".join(text.split()), quote=False))
