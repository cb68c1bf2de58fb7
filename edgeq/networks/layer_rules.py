"""Rules for Keras layers in a summary: their short names and their multiply-adds."""

from __future__ import annotations

import math
import re
from typing import Any

from edgeq.networks.tracing import Call, Leaf

__all__ = ["multiply_adds", "step_of"]

_SQUEEZE_AND_EXCITE = re.compile(r"squeeze|(?:^|_)se_")
# Keras layers whose multiply-adds can be counted, by short name.
_OPERATORS = {
    "dw": ("DepthwiseConv1D", "DepthwiseConv2D"),
    "separable": ("SeparableConv1D", "SeparableConv2D"),
    "transposed": ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    "conv": ("Conv1D", "Conv2D", "Conv3D"),
    "dense": ("Dense",),
}


def _operator(layer: Any) -> str | None:
    """Return the short name of a layer with a kernel; None if there is no rule for it."""
    from keras import layers

    for word, names in _OPERATORS.items():
        if isinstance(layer, tuple(getattr(layers, name) for name in names)):
            return word
    return None


def multiply_adds(call: Call) -> int | None:
    """Count the multiply-adds of one call of a layer.

    None if there is no rule for a layer with a kernel, or if the shape is unknown. 0 for a layer without a kernel.
    """
    weights = sum(math.prod(kernel.shape) for kernel in call.leaf.kernels)
    if not weights:
        return 0
    operator = _operator(call.leaf.layer)
    # Each weight is used once per cell of the output; in a transposed convolution, once per cell of the input.
    tensors = call.inputs if operator == "transposed" else call.outputs
    if operator is None or not tensors:
        return None
    cells = list(tensors[0].shape)
    del cells[1 if getattr(call.leaf.layer, "data_format", None) == "channels_first" else -1]
    return None if None in cells else weights * math.prod(cells)


def step_of(leaf: Leaf) -> str:
    """Return a short name of a layer's operation, such as ``dw 3x3/2``; empty for a layer not worth naming."""
    if _SQUEEZE_AND_EXCITE.search(leaf.layer.name):
        return "SE" if leaf.kernels else ""
    if "Pooling" in type(leaf.layer).__name__:
        return "pool"
    if not leaf.kernels:
        return ""
    operator = _operator(leaf.layer)
    if operator is None or operator == "dense":
        return operator or type(leaf.layer).__name__
    kernel, strides = ("x".join(map(str, sides)) for sides in (leaf.layer.kernel_size, leaf.layer.strides))
    if len(set(leaf.layer.strides)) == 1:
        strides = str(leaf.layer.strides[0])
    grouped = getattr(leaf.layer, "groups", 1) > 1
    words = ["grouped"] * grouped + [operator] * (grouped or (operator, kernel) != ("conv", "1x1"))
    return " ".join([*words, kernel]) + ("" if strides == "1" else f"/{strides}")
