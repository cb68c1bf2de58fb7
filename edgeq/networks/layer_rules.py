"""Names and multiply-add counts of Keras layers in a summary."""

from __future__ import annotations

import math
import re
from typing import Any

from edgeq.networks.tracing import Call, Leaf

__all__ = ["multiply_adds", "step_of"]

_SQUEEZE_AND_EXCITE = re.compile(r"squeeze|(?:^|_)se_")
# Layers of Keras whose multiply-adds are known, by their short name.
_OPERATORS = {
    "dw": ("DepthwiseConv1D", "DepthwiseConv2D"),
    "separable": ("SeparableConv1D", "SeparableConv2D"),
    "transposed": ("Conv1DTranspose", "Conv2DTranspose", "Conv3DTranspose"),
    "conv": ("Conv1D", "Conv2D", "Conv3D"),
    "dense": ("Dense",),
}


def _operator(layer: Any) -> str | None:
    """Short name of a layer with a kernel; None if no rule is for it."""
    from keras import layers

    for word, names in _OPERATORS.items():
        if isinstance(layer, tuple(getattr(layers, name) for name in names)):
            return word
    return None


def multiply_adds(call: Call) -> int | None:
    """Multiply-adds of one call; None for a layer with a kernel that no rule is for, or with an unknown shape."""
    weights = sum(math.prod(kernel.shape) for kernel in call.leaf.kernels)
    if not weights:
        return 0
    operator = _operator(call.leaf.layer)
    # Every cell of the output takes every weight once; in a transposed convolution, every cell of the input does.
    tensors = call.inputs if operator == "transposed" else call.outputs
    if operator is None or not tensors:
        return None
    cells = list(tensors[0].shape)
    del cells[1 if getattr(call.leaf.layer, "data_format", None) == "channels_first" else -1]
    return None if None in cells else weights * math.prod(cells)


def step_of(leaf: Leaf) -> str:
    """Name the operation of a layer in a block; empty for one that is not worth naming."""
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
