"""Compare a candidate model with its reference, or one model across execution backends, on the same images."""

from __future__ import annotations

from edgeq.comparison.across_backends import BackendComparison, compare_backends
from edgeq.comparison.compare import compare
from edgeq.comparison.dataset import find_labels, read_images
from edgeq.comparison.result import (
    ClassDrift,
    Comparison,
    Flip,
    Histogram,
    LayerDrift,
    ModelResult,
    PredictedClass,
)
from edgeq.comparison.tensor_result import OutputDrift, SampleDrift, TensorComparison, TensorModelResult
from edgeq.comparison.tensors import compare_tensors

__all__ = [
    "BackendComparison",
    "ClassDrift",
    "Comparison",
    "Flip",
    "Histogram",
    "LayerDrift",
    "ModelResult",
    "OutputDrift",
    "PredictedClass",
    "SampleDrift",
    "TensorComparison",
    "TensorModelResult",
    "compare",
    "compare_backends",
    "compare_tensors",
    "find_labels",
    "read_images",
]
