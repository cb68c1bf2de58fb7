"""The predictions for an image, as text."""

from __future__ import annotations

from edgeq.classification import Classification

__all__ = ["prediction_lines"]


def prediction_lines(result: Classification, *, timed: bool = False, with_device: bool = False) -> list[str]:
    """The image's name, then a line per prediction.

    Args:
        result: of an image that could be decoded.
        timed: whether a last line says how long each step took.
        with_device: whether the device stands before the image's name.
    """
    lines = [f"{result.device}: {result.file}" if with_device else str(result.file)]
    lines += [f"{prediction.probability:8.1%}  {prediction.label}" for prediction in result.predictions]
    if timed:
        lines.append("          " + ", ".join(f"{step} {ms:.1f} ms" for step, ms in result.times_ms.items()))
    return lines
