"""The comparison of one model across execution backends, as text for the terminal."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from edgeq.comparison.across_backends import BackendComparison, BackendResult
from edgeq.report.tables import table

__all__ = ["backend_comparison_lines"]

_MOST_FLIPS = 5
_LEGEND = (
    "differing: output values that differ from the first row's. largest: largest difference, in quantization steps "
    "(integer outputs) or real units (float)."
)


def backend_comparison_lines(comparison: BackendComparison, width: int | None = None) -> list[str]:
    """Format the backends as a table, followed by the flips of each.

    Args:
        comparison: the result to show.
        width: terminal width in characters; None reads it from the terminal.
    """
    width = width or shutil.get_terminal_size().columns
    first, *others = comparison.backends
    rows: list[tuple[str, ...]] = [("backend", "runtime", "kernels", "differing", "largest", "flips")]
    rows.append((_name(first), first.runtime, first.kernels, "(reference)", "", ""))
    rows += [_row(backend) for backend in others]
    noun = "image" if comparison.images == 1 else "images"
    lines = [f"{Path(comparison.model).name} on {comparison.images} {noun}, same input tensors for all", ""]
    lines += [*table(rows, width), ""]
    for there in others:
        for flip in there.flips[:_MOST_FLIPS]:
            name, where = Path(flip.file).name, f"{_name(there)}, {there.kernels}"
            text = f"{name}: {flip.reference} (first row), {flip.backend} ({where})"
            lines += textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False)
        if len(there.flips) > _MOST_FLIPS:
            lines.append(f"... and {len(there.flips) - _MOST_FLIPS} more")
    lines.append(_LEGEND)
    if comparison.skipped:
        lines.append(f"Note: skipped {len(comparison.skipped)} files that are not readable images.")
    return [part for line in lines for part in (textwrap.wrap(line, width) if len(line) > width else [line])]


def _name(backend: BackendResult) -> str:
    """Name the host "host", and each board as the user named it."""
    return "host" if backend.name == "here" else backend.name


def _row(found: BackendResult) -> tuple[str, ...]:
    if not found.images:
        return _name(found), found.runtime, found.kernels, "failed", "", ""
    share = f"{found.differing_values:,} of {found.values:,}"
    if found.error:
        share += f", then failed after {found.images} images"
    return _name(found), found.runtime, found.kernels, share, f"{found.largest_difference:.4g}", str(len(found.flips))
