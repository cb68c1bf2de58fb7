"""How far a candidate model drifted from its reference, on the same images."""

from __future__ import annotations

from edgeq.comparison.compare import compare
from edgeq.comparison.dataset import LabelledImage, find_labels, read_images
from edgeq.comparison.result import ClassDrift, Comparison, Flip, ModelResult

__all__ = [
    "ClassDrift",
    "Comparison",
    "Flip",
    "LabelledImage",
    "ModelResult",
    "compare",
    "find_labels",
    "read_images",
]
