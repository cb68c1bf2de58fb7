"""Narrower ranges for activations that the converter calibrated to their extremes.

A range that holds the largest value ever seen spends its 256 steps on values that hardly occur. Where nothing
clamps an activation (the linear bottlenecks of a MobileNet and the sums behind them), a range with a smaller
mean squared error costs a few values their extremes and gives all others a finer step (Banner et al. 2019,
arXiv 1810.05723). Clamped activations, such as those of ReLU6, keep theirs: clipping them does harm.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from edgeq.graphs import Graph, GraphPair, Tensor
from edgeq.graphs.editing import GraphEditor
from edgeq.graphs.pairing import WEIGHTED

__all__ = ["BINS", "count_values", "narrow_range", "narrowable"]

BINS = 2048
"""Of the histogram of a tensor's values over its present range."""

_STEPS = 255  # of an 8-bit range
_SHARES = np.linspace(0.5, 1.0, 26)  # of the present range's lower and upper end
_EVERY = 3  # place of an activation that is counted, with all its channels: their ranges differ
_NO_ACTIVATION = 0  # schema.fbs: ActivationFunctionType.NONE
_TAKE_ANY_SCALE = (*WEIGHTED, "ADD", "MUL", "MEAN", "HARD_SWISH", "QUANTIZE")
"""Operators whose kernels take an input of any scale; others want their output's."""


def narrowable(pair: GraphPair, editor: GraphEditor) -> dict[int, Tensor]:
    """Activations whose range may change: by their index in the float model, the INT8 model's tensors."""
    graph = pair.candidate
    found = {}
    for match in pair.operators:
        made, operator = match.candidate.outputs[0], match.candidate
        readers = graph.consumers.get(made, ())
        if (
            operator.name in (*WEIGHTED, "ADD")
            and operator.options.fusedActivationFunction == _NO_ACTIVATION
            and graph.tensors[made].quantization.dtype == "int8"
            and made not in graph.outputs
            and all(reader.name in _TAKE_ANY_SCALE for reader in readers)
            and all(_bias_can_follow(graph, editor, reader.inputs) for reader in readers if reader.name in WEIGHTED)
        ):
            found[match.reference.outputs[0]] = graph.tensors[made]
    return found


def _bias_can_follow(graph: Graph, editor: GraphEditor, inputs: Sequence[int]) -> bool:
    """Whether a layer's bias, whose scale is that of its input times that of its weights, may be written."""
    return len(inputs) < 3 or (graph.is_constant(inputs[2]) and editor.owns_data(inputs[2]))


def count_values(values: npt.NDArray[np.float32], tensor: Tensor) -> npt.NDArray[np.int64]:
    """Histogram of float values over a tensor's present range: (BINS,) counts; those outside go to the ends.

    Args:
        values: (..., channels); one place in three is counted.
        tensor: of the INT8 model.
    """
    low, high = tensor.quantization.real_range
    counted = values.reshape(-1, values.shape[-1])[::_EVERY]
    bins = (counted - np.float32(low)) * np.float32(BINS / (high - low))
    return np.bincount(np.clip(bins, 0, BINS - 1).astype(np.int64).ravel(), minlength=BINS)


def narrow_range(editor: GraphEditor, index: int, counts: npt.NDArray[np.int64]) -> None:
    """Give an activation the range of least mean squared error; its readers' biases must follow.

    Args:
        editor: of the INT8 model.
        index: of the activation.
        counts: (BINS,) as `count_values` has them, summed over the images.
    """
    quantization = editor.graph.tensors[index].quantization
    low, high = quantization.real_range
    middles = low + (np.arange(BINS) + 0.5) * (high - low) / BINS
    lows, highs = (np.array([0.0]) if end == 0 else _SHARES * end for end in (min(low, 0.0), max(high, 0.0)))
    # (lows, bins) and (highs, bins): squared distance of each bin to a range that ends there.
    below = (np.maximum(lows[:, np.newaxis] - middles, 0) ** 2) @ counts
    above = (np.maximum(middles - highs[:, np.newaxis], 0) ** 2) @ counts
    scales = (highs[np.newaxis, :] - lows[:, np.newaxis]) / _STEPS
    error = below[:, np.newaxis] + above[np.newaxis, :] + counts.sum() * scales**2 / 12
    a, b = np.unravel_index(int(np.argmin(error)), error.shape)
    scale = float(scales[a, b])
    if not scale > 0:
        return
    smallest, largest = quantization.integer_range
    zero_point = int(np.clip(round(smallest - float(lows[a]) / scale), smallest, largest))
    editor.set_quantization(index, [scale], [zero_point])
