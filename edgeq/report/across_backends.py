"""The comparison of a model across execution backends, as text that fits the terminal."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from edgeq.comparison.across_backends import BackendComparison, BackendResult
from edgeq.report.tables import table

__all__ = ["backend_comparison_lines"]

_MOST_FLIPS = 5


def backend_comparison_lines(comparison: BackendComparison, width: int | None = None) -> list[str]:
    """A table of the backends, and the flips of each, as lines of text.

    Args:
        comparison: what was measured.
        width: of the terminal in characters; None asks it.
    """
    width = width or shutil.get_terminal_size().columns
    first, *others = comparison.backends
    rows: list[tuple[str, ...]] = [("where", "runtime", "kernels", "values differing", "largest", "flips")]
    rows.append((first.name, first.runtime, first.kernels, "(reference)", "", ""))
    rows += [_row(backend) for backend in others]
    noun = "image" if comparison.images == 1 else "images"
    lines = [f"{Path(comparison.model).name} on {comparison.images} {noun}, the same tensors everywhere", ""]
    lines += [*table(rows, width), ""]
    for there in others:
        for flip in there.flips[:_MOST_FLIPS]:
            text = f"{Path(flip.file).name}: {flip.reference}, but {there.name} ({there.kernels}) says {flip.backend}"
            lines += textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False)
        if len(there.flips) > _MOST_FLIPS:
            lines.append(f"... and {len(there.flips) - _MOST_FLIPS} more")
    lines.append("Largest difference of two outputs: in steps of the integer, or the floats' own unit.")
    if comparison.skipped:
        lines.append(f"Note: skipped {len(comparison.skipped)} files that are no readable images.")
    return [part for line in lines for part in (textwrap.wrap(line, width) if len(line) > width else [line])]


def _row(found: BackendResult) -> tuple[str, ...]:
    if not found.images:
        return found.name, found.runtime, found.kernels, "failed", "", ""
    share = f"{found.differing_values:,} of {found.values:,}"
    if found.error:
        share += f", then failed after {found.images} images"
    return found.name, found.runtime, found.kernels, share, f"{found.largest_difference:.4g}", str(len(found.flips))
