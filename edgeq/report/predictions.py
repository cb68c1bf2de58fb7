"""The predictions for an image, as text."""

from __future__ import annotations

from edgeq.classification import Classification

__all__ = ["prediction_lines"]


def prediction_lines(result: Classification, *, timed: bool = False, with_device: bool = False) -> list[str]:
    """Format the image's name, then one line per prediction.

    Args:
        result: result for an image that could be decoded.
        timed: whether to add a line with the time of each step.
        with_device: whether to print the board's name before the image's name.
    """
    lines = [f"{result.device}: {result.file}" if with_device else str(result.file)]
    lines += [f"{prediction.probability:8.1%}  {prediction.label}" for prediction in result.predictions]
    if timed:
        lines.append("          " + ", ".join(f"{step} {ms:.1f} ms" for step, ms in result.times_ms.items()))
    return lines
