"""Find ranges of activations that have a smaller error on the calibration images than the converter's ranges.

The converter makes each range include the largest value observed, so many of its 256 steps represent values that hardly
ever occur. The range with the least mean squared error clips a few extreme values and represents all others in finer
steps (Banner et al. 2019, arXiv 1810.05723).

Ranges are narrowed only for activations without an activation function: a MobileNet's linear bottlenecks and the sums
after them. The ranges of clamped activations (ReLU, ReLU6) and of logits are only widened, where the images exceed them
because the model was calibrated on other images.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence

import numpy as np
import numpy.typing as npt

from edgeq.graphs import GraphPair
from edgeq.graphs.pairing import WEIGHTED
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import ABSENT, Graph, Operator, Tensor

__all__ = ["RangeObserver", "range_observers"]

_BINS = 8192
_REACH = 4.0  # the histogram's end, as a multiple of the present range's largest absolute value
_STEPS = 255  # number of steps in an 8-bit range
_SHARES = np.linspace(0.5, 1.0, 26)  # candidates for each end, as fractions of the observed end
_EVERY = 3  # one position in this many is counted, with all of its channels, because channels' ranges differ
_NO_ACTIVATION = 0  # schema.fbs: ActivationFunctionType.NONE
_TAKE_ANY_SCALE = (*WEIGHTED, "ADD", "MUL", "MEAN", "HARD_SWISH", "QUANTIZE", "SOFTMAX", "LOGISTIC")
"""Operators whose kernels accept an input of any scale; others require that input and output have the same scale."""


class RangeObserver:
    """Observes a float activation and finds the best range for its counterpart in the INT8 model."""

    def __init__(self, tensor: Tensor, narrowed: bool) -> None:
        """Start without values.

        Args:
            tensor: the activation in the INT8 model.
            narrowed: whether the range may also be narrowed; if False, it is only widened.
        """
        self._tensor, self._narrowed = tensor, narrowed
        self._present = tensor.quantization.real_range
        self._reach = _REACH * max(map(abs, self._present))
        self._counts = np.zeros(_BINS, np.int64)
        self._low, self._high = self._present

    def add(self, values: npt.NDArray[np.float32]) -> None:
        """Add the activation's values for one image, (..., channels) float32."""
        if self._narrowed:
            counted = values.reshape(-1, values.shape[-1])[::_EVERY]
            bins = (counted + np.float32(self._reach)) * np.float32(_BINS / (2 * self._reach))
            self._counts += np.bincount(np.clip(bins, 0, _BINS - 1).astype(np.int64).ravel(), minlength=_BINS)
        else:
            self._low, self._high = min(self._low, float(values.min())), max(self._high, float(values.max()))

    def best_range(self) -> tuple[float, float]:
        """Return the lower and the upper end of the best range; it includes 0."""
        low, high = self._low, self._high
        if self._narrowed and self._counts.any():
            middles = ((np.arange(_BINS) + 0.5) / _BINS * 2 - 1) * self._reach
            seen = middles[self._counts > 0]
            low, high = _least_error(middles, self._counts, min(low, seen[0], 0.0), max(high, seen[-1], 0.0))
        return min(low, 0.0), max(high, 0.0)

    def fit(self, editor: GraphEditor) -> None:
        """Write the best range into the model.

        The caller must then rescale the biases of the operators that read the activation.

        Args:
            editor: editor of the INT8 model or of a copy of it.
        """
        low, high = self.best_range()
        scale = (high - low) / _STEPS
        if scale > 0 and (low, high) != self._present:
            smallest, largest = self._tensor.quantization.integer_range
            zero_point = int(np.clip(round(smallest - low / scale), smallest, largest))
            editor.set_quantization(self._tensor.index, [scale], [zero_point])


def _least_error(
    values: npt.NDArray[np.float64], counts: npt.NDArray[np.int64], low: float, high: float
) -> tuple[float, float]:
    """Find the range with the least mean squared error. Each end is between half of the given end and the given end.

    Args:
        values: (bins,) float64, the value of each bin.
        counts: (bins,) int64, how often each value occurs.
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


def range_observers(pair: GraphPair, editor: GraphEditor, unchanged: Collection[int] = ()) -> dict[int, RangeObserver]:
    """Make an observer for each activation whose range may change.

    Args:
        pair: the graphs of both models.
        editor: editor of the INT8 model.
        unchanged: indices of the INT8 model's operators whose biases will not be rescaled.

    Returns:
        The observers, by the activation's index in the float model.
    """
    graph = pair.candidate
    found = {}
    for match in pair.operators:
        made, operator = match.candidate.outputs[0], match.candidate
        readers = graph.consumers.get(made, ())
        if (
            operator.name in (*WEIGHTED, "ADD")
            and graph.tensors[made].quantization.dtype == "int8"
            and made not in graph.outputs
            and all(reader.name in _TAKE_ANY_SCALE for reader in readers)
            and all(
                reader.index not in unchanged and _bias_can_follow(graph, editor, reader.inputs)
                for reader in readers
                if reader.name in WEIGHTED
            )
        ):
            found[match.reference.outputs[0]] = RangeObserver(graph.tensors[made], _may_be_narrowed(operator, readers))
    return found


def _may_be_narrowed(operator: Operator, readers: Sequence[Operator]) -> bool:
    """Return whether an activation's range may be narrowed: if nothing clamps it, and if it holds no logits."""
    clamped = operator.options.fusedActivationFunction != _NO_ACTIVATION
    return not clamped and all(reader.name not in ("SOFTMAX", "LOGISTIC") for reader in readers)


def _bias_can_follow(graph: Graph, editor: GraphEditor, inputs: Sequence[int]) -> bool:
    """Return whether a layer's bias is absent or can be rescaled when the input's scale changes.

    A bias's scale must equal the input's scale times the weights' scale.
    """
    bias = inputs[2] if len(inputs) > 2 else ABSENT
    return bias == ABSENT or (graph.is_constant(bias) and editor.owns_data(bias))
