"""Check a model against what Coral's Edge TPU supports, according to the operators and requirements it documents."""

from __future__ import annotations

import math
from collections.abc import Iterator

from edgeq.tflite.graph import Graph, Operator

__all__ = ["SOURCE", "Complaint", "complaints"]

SOURCE = "coral.ai/docs/edgetpu/models-intro: model requirements, and supported operations as of Edge TPU runtime 14"

Complaint = tuple[str, str]
"""An operator's name (empty for the whole model), and why it is not supported."""

_OPERATORS = (
    "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "EXPAND_DIMS", "FULLY_CONNECTED",
    "L2_NORMALIZATION", "LOGISTIC", "LSTM", "MAX_POOL_2D", "MAXIMUM", "MEAN", "MINIMUM", "MUL", "PACK", "PAD", "PRELU",
    "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR",
    "RESIZE_NEAREST_NEIGHBOR", "RSQRT", "SLICE", "SOFTMAX", "SPACE_TO_DEPTH", "SPLIT", "SQUARED_DIFFERENCE", "SQUEEZE",
    "STRIDED_SLICE", "SUB", "SUM", "TANH", "TRANSPOSE", "TRANSPOSE_CONV",
)  # fmt: skip
_NO_FUSED_ACTIVATION = ("AVERAGE_POOL_2D", "CONCATENATION", "MAX_POOL_2D")
_MOST_SOFTMAX = 16_000


def complaints(graph: Graph) -> Iterator[Complaint]:
    """Yield what the compiler would not map to the Edge TPU, one complaint per operator."""
    for shape in map(graph.open_shape, graph.inputs):
        if -1 in shape:
            yield "", f"its input {list(shape)} leaves a size open; convert it with a fixed batch of 1"
    for operator in graph.operators:
        reason = _reason(graph, operator)
        if reason:
            yield operator.name, reason


def _reason(graph: Graph, operator: Operator) -> str | None:
    """Return why an operator is not mapped to the Edge TPU; None if no reason is known."""
    activations = (*graph.activations(operator), *operator.outputs)
    tensors = [graph.tensors[i] for i in activations]
    wide = graph.dtypes(activations) - {"int8", "uint8"}
    if wide:
        return f"works on {', '.join(sorted(wide))}; only 8-bit tensors are mapped"
    if operator.name not in _OPERATORS:
        return "is not among the supported operations"
    if any(side > 1 for tensor in tensors for side in tensor.shape[:-3]):
        return "only the innermost three dimensions may be larger than 1"
    if operator.name == "SOFTMAX" and math.prod(tensors[0].shape) > _MOST_SOFTMAX:
        return f"takes at most {_MOST_SOFTMAX:,} elements"
    return _wrong_option(operator)


def _wrong_option(operator: Operator) -> str | None:
    options = operator.options
    if operator.name in _NO_FUSED_ACTIVATION and options.fusedActivationFunction:
        return "must not have an activation fused to it"
    if operator.name in ("CONV_2D", "DEPTHWISE_CONV_2D") and options.dilationWFactor != options.dilationHFactor:
        return "must be dilated alike in both directions"
    return None
