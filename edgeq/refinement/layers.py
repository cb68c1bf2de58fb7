"""A weighted operator as a matrix product: weights times patches of its input, plus a bias."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite.graph import ABSENT, Graph, Operator, Tensor

__all__ = ["Layer"]

_SAME = 0  # schema.fbs: Padding.SAME


@dataclass(frozen=True)
class Layer:
    """A CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED operator of a graph.

    The layer reads one patch of its input per output position: (kernel height, kernel width, input channels). Output
    channel o is the sum of ``weights[o, k] * patch[k]`` over the patch's entries k, plus ``bias[o]``; then comes the
    activation function. Each output channel of a depthwise layer reads one input channel only.

    Attributes:
        graph: the operator's graph.
        operator: the operator.
    """

    graph: Graph
    operator: Operator

    @property
    def depthwise(self) -> bool:
        """Whether each output channel reads one input channel only."""
        return self.operator.name == "DEPTHWISE_CONV_2D"

    @property
    def input(self) -> Tensor:
        """The input activation."""
        return self.graph.tensors[self.operator.inputs[0]]

    @property
    def weights(self) -> Tensor:
        """The weights, in the shape that the file stores them in."""
        return self.graph.tensors[self.operator.inputs[1]]

    @property
    def bias(self) -> Tensor | None:
        """The bias, (channels,), or None."""
        index = self.operator.inputs[2] if len(self.operator.inputs) > 2 else ABSENT
        return None if index == ABSENT else self.graph.tensors[index]

    @property
    def output(self) -> Tensor:
        """The output activation."""
        return self.graph.tensors[self.operator.outputs[0]]

    @property
    def dense(self) -> bool:
        """Whether this is a FULLY_CONNECTED, at one position or at each position of a sequence (as in attention)."""
        return self.operator.name == "FULLY_CONNECTED"

    @property
    def refinable(self) -> bool:
        """Whether the operator multiplies constant weights with patches of an activation, as this class assumes."""
        weights, source, output = self.weights, self.input, self.output
        if weights.data is None or source.data is not None:
            return False
        if not self.dense:
            return len(weights.shape) == len(source.shape) == len(output.shape) == 4
        # FULLY_CONNECTED reads its input as rows of as many values as the weights have columns, whatever its shape.
        columns = math.prod(weights.shape[1:])
        return len(weights.shape) == 2 and math.prod(source.shape) == math.prod(self.output_size()) * columns

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of a patch; (1, 1) for FULLY_CONNECTED."""
        if self.dense:
            return 1, 1
        _, height, width, _ = self.weights.shape
        return height, width

    @property
    def channels(self) -> int:
        """Number of input channels of a patch."""
        return self.weights.shape[1] if self.dense else self.input.shape[-1]

    def rows(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Reshape weights from the shape in the file to (output channels, patch entries)."""
        if self.depthwise:
            return weights.reshape(-1, weights.shape[-1]).T
        return weights.reshape(len(weights), -1)

    def unrows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Reshape (output channels, patch entries) to the shape in the file; the inverse of `rows`."""
        return (rows.T if self.depthwise else rows).reshape(self.weights.shape)

    def respond(self, rows: npt.NDArray[Any], patches: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Compute the layer's outputs for patches, without bias and activation function.

        Args:
            rows: weights as `rows` returns them.
            patches: (count, kernel height, kernel width, input channels).

        Returns:
            (count, output channels).
        """
        count, channels = len(patches), self.channels
        entries = patches.reshape(count, -1, channels)  # (count, height * width, channels)
        if self.depthwise:
            multiplier = len(rows) // channels
            seen = entries if multiplier == 1 else entries.repeat(multiplier, axis=2)
            return np.asarray(np.einsum("ok,nko->no", rows, seen))
        groups = channels * entries.shape[1] // rows.shape[1]
        seen = entries.reshape(count, -1, groups, channels // groups).transpose(2, 0, 1, 3).reshape(groups, count, -1)
        parts = rows.reshape(groups, -1, rows.shape[1])
        given = seen @ parts.swapaxes(1, 2)  # (groups, count, channels of the group)
        return np.asarray(given.transpose(1, 0, 2).reshape(count, -1))

    def output_size(self) -> tuple[int, int]:
        """Return height and width of the output; (1, positions) for FULLY_CONNECTED."""
        shape = self.output.shape
        return (1, math.prod(shape[1:-1])) if self.dense else (shape[1], shape[2])

    def patches(
        self, activations: npt.NDArray[Any], positions: npt.NDArray[np.int64], padding: int = 0
    ) -> npt.NDArray[Any]:
        """Extract the input patches of some output positions from activations.

        Args:
            activations: the layer's input for several images, (images, ...): real numbers or the tensor's integers.
            positions: (count,) indices of output positions, numbered row by row.
            padding: the value that represents 0: the zero point if the activations are integers.

        Returns:
            (images, count, kernel height, kernel width, input channels).
        """
        items = len(activations)
        if self.kernel == (1, 1) and self._strides() == (1, 1):
            flat = activations.reshape(items, int(np.prod(self.output_size())), -1)
            return flat[:, positions, np.newaxis, np.newaxis, :]
        rows, columns = np.divmod(positions, self.output_size()[1])
        height, width, _ = activations.shape[1:]
        down = self._source(0, rows)[:, :, np.newaxis]
        right = self._source(1, columns)[:, np.newaxis, :]
        # Where a patch crosses the edge, take the nearest value inside; the next line overwrites it with padding.
        result = activations[:, down.clip(0, height - 1), right.clip(0, width - 1)]
        result[:, (down < 0) | (down >= height) | (right < 0) | (right >= width)] = padding
        return result

    def mean_patch(self, activation: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Average the patches of all positions.

        Args:
            activation: the layer's input for one image, or its mean over images, without the batch dimension: real
                numbers, or integers minus their zero point.

        Returns:
            (kernel height, kernel width, input channels).
        """
        rows, columns = self.output_size()
        if self.kernel == (1, 1) and self._strides() == (1, 1):
            flat = activation.reshape(rows * columns, -1)
            # A matrix product is several times faster than ``sum(axis=0)`` of a tall matrix.
            summed = np.ones(len(flat), flat.dtype) @ flat
            return np.asarray(summed / len(flat), np.float64)[np.newaxis, np.newaxis]
        height, width, channels = activation.shape
        down, right = self._read_inside
        # For each kernel row, count how often it reads each input row. One matrix product with these counts then sums
        # the input rows over all positions.
        chosen = np.stack([np.bincount(numbers, minlength=height) for numbers in down]).astype(activation.dtype)
        summed = (chosen @ activation.reshape(height, -1)).reshape(-1, width, channels)
        patch = np.stack([summed[:, numbers].sum(axis=1, dtype=np.float64) for numbers in right], axis=1)
        return np.asarray(patch / (rows * columns), np.float64)

    @cached_property
    def _read_inside(self) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]]:
        """The input rows that each kernel row reads over all positions, without padding; and the same for columns."""
        found = [self._source(axis, np.arange(self.output_size()[axis])).T for axis in (0, 1)]
        down, right = (
            [n[(n >= 0) & (n < size)] for n in f] for f, size in zip(found, self.input.shape[1:3], strict=True)
        )
        return down, right

    def _strides(self) -> tuple[int, int]:
        if self.dense:
            return 1, 1
        return int(self.operator.options.strideH), int(self.operator.options.strideW)

    def _source(self, axis: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Return the indices of input rows (axis 0) or columns (axis 1) in patches; indices outside are padding.

        Args:
            axis: 0 or 1.
            positions: (count,) rows or columns of the output.

        Returns:
            (count, kernel height or width).
        """
        options = self.operator.options
        kernel, stride = self.kernel[axis], self._strides()[axis]
        dilation = (options.dilationHFactor, options.dilationWFactor)[axis]
        spread = (kernel - 1) * dilation + 1
        spare = max(0, (self.output_size()[axis] - 1) * stride + spread - self.input.shape[1 + axis])
        before = spare // 2 if options.padding == _SAME else 0
        first = positions[:, np.newaxis] * stride - before
        return np.asarray(first + np.arange(kernel) * dilation, np.int64)
