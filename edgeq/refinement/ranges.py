"""Find ranges of activations that have a smaller error on the calibration images than the converter's ranges.

The converter makes each range include the largest value observed, so many of its 256 steps represent values that hardly
ever occur. The range with the least mean squared error clips a few extreme values and represents all others in finer
steps (Banner et al. 2019, arXiv 1810.05723).

Ranges are narrowed only for activations without an activation function: a MobileNet's linear bottlenecks and the sums
after them. The ranges of clamped activations (ReLU, ReLU6), of logits and of the model's outputs are only widened,
where the images exceed them because the model was calibrated on other images or its converter smoothed the ranges.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from edgeq.graphs import GraphPair
from edgeq.graphs.pairing import WEIGHTED
from edgeq.refinement.histogram import Histogram
from edgeq.refinement.observation import Observation, is_clamped
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import ABSENT, Graph, Operator, Tensor

__all__ = ["best_range", "fit_ranges", "range_pairs", "write_ranges"]

_STEPS = 255  # number of steps in an 8-bit range
_SHARES = np.linspace(0.5, 1.0, 26)  # candidates for each end, as fractions of the observed end
_TAKE_ANY_SCALE = (
    *WEIGHTED, "ADD", "MUL", "MEAN", "HARD_SWISH", "QUANTIZE", "DEQUANTIZE", "SOFTMAX", "LOGISTIC",
)  # fmt: skip
"""Operators whose kernels accept an input of any scale."""

_KEEP_SCALE = ("PAD", "RESHAPE", "SQUEEZE", "TRANSPOSE", "MAX_POOL_2D")
"""Operators whose kernels require that input and output have the same scale, and that have one of each."""


def fit_ranges(
    pair: GraphPair,
    observation: Observation,
    editor: GraphEditor,
    unchanged: Collection[int] = (),
    *,
    narrowing: bool = True,
) -> dict[int, tuple[float, int]]:
    """Find the best range of each activation whose range may change.

    Args:
        pair: the graphs of both models.
        observation: what the float model computed.
        editor: editor of the INT8 model.
        unchanged: indices of the INT8 model's operators whose biases will not be rescaled.
        narrowing: whether to narrow ranges as well, or only to widen those that the images exceed.

    Returns:
        Scale and zero point of each activation whose range should change, by the tensor's index in the INT8 model.
    """
    found = {}
    for reference, tensors, narrowed in range_pairs(pair, editor, unchanged):
        present = tensors[0].quantization.real_range
        histogram = observation.histograms.get(reference) if narrowed and narrowing else None
        low, high = best_range(present, observation.fitted_ranges[reference], histogram)
        scale = (high - low) / _STEPS
        if scale > 0 and (low, high) != present:
            smallest, largest = tensors[0].quantization.integer_range
            zero_point = int(np.clip(round(smallest - low / scale), smallest, largest))
            found.update({tensor.index: (scale, zero_point) for tensor in tensors})
    return found


def write_ranges(editor: GraphEditor, ranges: Mapping[int, tuple[float, int]]) -> None:
    """Write what `fit_ranges` found. The caller must then rescale the biases of the operators that read the tensors."""
    for index, (scale, zero_point) in ranges.items():
        editor.set_quantization(index, [scale], [zero_point])


def best_range(
    present: tuple[float, float], observed: tuple[float, float], histogram: Histogram | None
) -> tuple[float, float]:
    """Return the lower and the upper end of an activation's best range; it includes 0.

    Args:
        present: the range in the INT8 model.
        observed: smallest and largest value of the float model's activation.
        histogram: its values, for a range that may be narrowed; None for one that is only widened.
    """
    low, high = min(present[0], 0.0), max(present[1], 0.0)
    step = (high - low) / _STEPS  # zero must be a step, so the ends of a range may be up to a step off
    if observed[0] < low - step or observed[1] > high + step:
        low, high = min(low, observed[0]), max(high, observed[1])
    if histogram is None or not histogram.counts.any():
        return low, high
    return _least_error(*histogram.values(), low, high)


def _least_error(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], low: float, high: float
) -> tuple[float, float]:
    """Find the range with the least mean squared error. Each end is between half of the given end and the given end.

    Args:
        values: (values,) float64, the values that occur.
        counts: (values,) int64, how often each occurs.
        low: lower end, at most 0.
        high: upper end, at least 0.
    """
    lows, highs = (np.array([0.0]) if end == 0 else _SHARES * end for end in (low, high))
    # For each candidate end: the sum of the squared distances by which values exceed it.
    below = (np.maximum(lows[:, np.newaxis] - values, 0) ** 2) @ counts
    above = (np.maximum(values - highs[:, np.newaxis], 0) ** 2) @ counts
    scales = (highs[np.newaxis, :] - lows[:, np.newaxis]) / _STEPS
    error = below[:, np.newaxis] + above[np.newaxis, :] + counts.sum() * scales**2 / 12
    a, b = np.unravel_index(int(np.argmin(error)), error.shape)
    return float(lows[a]), float(highs[b])


def range_pairs(
    pair: GraphPair, editor: GraphEditor, unchanged: Collection[int] = ()
) -> Iterator[tuple[int, list[Tensor], bool]]:
    """List the activations whose ranges may change.

    Args:
        pair: the graphs of both models.
        editor: editor of the INT8 model.
        unchanged: indices of the INT8 model's operators whose biases will not be rescaled.

    Yields:
        The activation's index in the float model; its tensor in the INT8 model, with those that must have the same
        scale; and whether the range may be narrowed (if not, it may be widened).
    """
    graph = pair.candidate
    for match in pair.operators:
        made, operator = match.candidate.outputs[0], match.candidate
        if operator.name not in (*WEIGHTED, "ADD") or graph.tensors[made].quantization.dtype != "int8":
            continue
        tensors = _sharing_scale(graph, made)
        readers = [reader for index in tensors for reader in graph.consumers.get(index, ())]
        if all(reader.name in (*_TAKE_ANY_SCALE, *_KEEP_SCALE) for reader in readers) and all(
            reader.index not in unchanged and _bias_can_follow(graph, editor, reader.inputs)
            for reader in readers
            if reader.name in WEIGHTED
        ):
            narrowed = _may_be_narrowed(graph, operator, readers)
            yield match.reference.outputs[0], [graph.tensors[index] for index in tensors], narrowed


def _sharing_scale(graph: Graph, index: int) -> list[int]:
    """Return an activation, and those that must have its scale: it reaches them through operators that keep it."""
    tensors = [index]
    for reader in graph.consumers.get(index, ()):
        if reader.name in _KEEP_SCALE:
            tensors += _sharing_scale(graph, reader.outputs[0])
    return tensors


def _may_be_narrowed(graph: Graph, operator: Operator, readers: Sequence[Operator]) -> bool:
    """Return whether an activation's range may be narrowed.

    It may if nothing clamps it, and if it holds no logits and is no output of the model.
    """
    outputs = [o for reader in readers if reader.name in ("QUANTIZE", "DEQUANTIZE") for o in reader.outputs]
    passed = [o for reader in readers if reader.name in _KEEP_SCALE for o in reader.outputs]
    is_output = not {operator.outputs[0], *outputs, *passed}.isdisjoint(graph.outputs)
    holds_logits = any(reader.name in ("SOFTMAX", "LOGISTIC") for reader in readers)
    return not (is_clamped(operator) or holds_logits or is_output)


def _bias_can_follow(graph: Graph, editor: GraphEditor, inputs: Sequence[int]) -> bool:
    """Return whether a layer's bias is absent or can be rescaled when the input's scale changes.

    A bias's scale must equal the input's scale times the weights' scale.
    """
    bias = inputs[2] if len(inputs) > 2 else ABSENT
    return bias == ABSENT or (graph.is_constant(bias) and editor.owns_data(bias))
