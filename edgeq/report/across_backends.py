"""How far a model's outputs differ from place to place, as text that fits the terminal."""

from __future__ import annotations

import shutil
import textwrap
from pathlib import Path

from edgeq.comparison.across_backends import Agreement, PlaceResult
from edgeq.report.tables import table

__all__ = ["agreement_lines"]

_MOST_FLIPS = 5


def agreement_lines(agreement: Agreement, width: int | None = None) -> list[str]:
    """A table of the places, and the flips of each, as lines of text.

    Args:
        agreement: what was measured.
        width: of the terminal in characters; None asks it.
    """
    width = width or shutil.get_terminal_size().columns
    first, *others = agreement.places
    rows: list[tuple[str, ...]] = [("where", "runtime", "kernels", "values differing", "largest", "flips")]
    rows.append((first.name, first.runtime, first.kernels, "(reference)", "", ""))
    rows += [_row(place) for place in others]
    noun = "image" if agreement.images == 1 else "images"
    lines = [f"{Path(agreement.model).name} on {agreement.images} {noun}, the same tensors everywhere", ""]
    lines += [*table(rows, width), ""]
    for place in others:
        for flip in place.flips[:_MOST_FLIPS]:
            text = f"{Path(flip.file).name}: {flip.reference}, but {place.name} ({place.kernels}) says {flip.place}"
            lines += textwrap.wrap(text, width, subsequent_indent="  ", break_long_words=False)
        if len(place.flips) > _MOST_FLIPS:
            lines.append(f"... and {len(place.flips) - _MOST_FLIPS} more")
    lines.append("Largest difference of two outputs: in steps of the integer, or the floats' own unit.")
    if agreement.skipped:
        lines.append(f"Note: skipped {len(agreement.skipped)} files that are no readable images.")
    return [part for line in lines for part in (textwrap.wrap(line, width) if len(line) > width else [line])]


def _row(place: PlaceResult) -> tuple[str, ...]:
    if not place.images:
        return place.name, place.runtime, place.kernels, "failed", "", ""
    share = f"{place.differing_values:,} of {place.values:,}"
    if place.error:
        share += f", then failed after {place.images} images"
    return place.name, place.runtime, place.kernels, share, f"{place.largest_difference:.4g}", str(len(place.flips))
