"""How far a candidate model drifted from its reference, on the same images."""

from __future__ import annotations

from edgeq.comparison.compare import compare
from edgeq.comparison.dataset import LabelledImage, find_labels, read_images
from edgeq.comparison.result import ClassDrift, Comparison, Flip, Histogram, LayerDrift, ModelResult

__all__ = [
    "ClassDrift",
    "Comparison",
    "Flip",
    "Histogram",
    "LabelledImage",
    "LayerDrift",
    "ModelResult",
    "compare",
    "find_labels",
    "read_images",
]
