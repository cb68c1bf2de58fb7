"""A comparison in one sentence, its notes, and formatted numbers."""

from __future__ import annotations

import math
from pathlib import Path

from edgeq.comparison import Comparison, Flip, TensorComparison

__all__ = ["answers", "decibels", "model_names", "notes", "percent", "points", "sentence", "verdict"]

_KINDS = {"fp32": "FP32", "fp16": "FP16", "int8": "INT8", "int16x8": "INT16x8"}
_FEW_IMAGES = 100


def verdict(comparison: Comparison) -> str:
    """Summarize the comparison in one sentence, with its intervals.

    If there is a fault, a sentence on it comes first.
    """
    c = comparison
    reference, candidate = (f"the {name}" if name.islower() else name for name in model_names(c))
    low, high = c.agreement_ci95
    images = "1 image" if c.images == 1 else f"{c.images} images"
    text = (
        f"{candidate} agrees with {reference} on {percent(c.agreement)} of {images} "
        f"(95 % interval {100 * low:.1f} to {100 * high:.1f})"
    )
    if c.top1_drop is not None and c.top1_drop_ci95 is not None:
        text += f", {_top1(c.top1_drop, c.top1_drop_ci95)}"
    return f"{sentence(c.faults[0])} {sentence(text)}" if c.faults else sentence(text)


def _top1(drop: float, interval: tuple[float, float]) -> str:
    """Describe the change of the top-1; its number is always positive."""
    low, high = (100 * end for end in interval)
    size = f"{abs(100 * drop):.1f}"
    if size == "0.0":
        return f"top-1 does not change (drop of {_number(low)} to {_number(high)} points)"
    if drop < 0:
        return f"top-1 rises by {size} points ({_number(-high)} to {_number(-low)})"
    return f"top-1 falls by {size} points ({_number(low)} to {_number(high)})"


def notes(comparison: Comparison) -> list[str]:
    """Return notes on the comparison, as sentences without a full stop."""
    said = list(comparison.notes)
    if 0 < comparison.labelled < comparison.images:
        said.append(f"top-1 and top-5 are measured on the {comparison.labelled} images whose class is known")
    if comparison.images < _FEW_IMAGES:
        said.append(f"{comparison.images} images are few, so the intervals are wide; use {_FEW_IMAGES} or more")
    if comparison.calibration_overlap:
        said.append(
            f"{comparison.calibration_overlap} of the {comparison.images} images were used for calibration, so the "
            "drift on other images is probably larger; compare on other images"
        )
    if comparison.skipped:
        names = ", ".join(Path(file).name for file, _ in comparison.skipped[:3])
        names += ", ..." if len(comparison.skipped) > 3 else ""
        said.append(f"skipped {len(comparison.skipped)} files that are not readable images ({names})")
    return said


def model_names(comparison: Comparison | TensorComparison) -> tuple[str, str]:
    """Return names of the two models: FP32 and INT8 if their file names end so, else reference and candidate."""
    paths = (comparison.reference.path, comparison.candidate.path)
    reference, candidate = (_KINDS.get(Path(path).stem.rpartition("_")[2]) for path in paths)
    if reference is None or candidate is None or reference == candidate:
        return "reference", "candidate"
    return reference, candidate


def answers(flip: Flip) -> tuple[str, str]:
    """Format what the reference and the candidate predict for a flip: each class and its probability."""
    return (
        f"{flip.reference} {flip.reference_probability:.0%}",
        f"{flip.candidate} {flip.candidate_probability:.0%}",
    )


def sentence(text: str) -> str:
    """Capitalize the text, and add a full stop if it has none."""
    return text[:1].upper() + text[1:] + ("" if text.endswith((".", "!", "?")) else ".")


def percent(share: float | None) -> str:
    """Format a fraction in 0..1 as a percentage, or None as a dash."""
    return "-" if share is None else f"{_number(100 * share)} %"


def points(share: float | None) -> str:
    """Format a difference of fractions in percentage points, or None as a dash."""
    return "-" if share is None else _number(100 * share)


def decibels(value: float | None) -> str:
    """Format an SQNR; None and infinity mean that there is no noise."""
    return "no noise" if value is None or math.isinf(value) else f"{_number(value)} dB"


def _number(value: float) -> str:
    """Format with one decimal, without a signed zero."""
    return f"{round(value, 1) + 0.0:.1f}"
