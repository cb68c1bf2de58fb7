"""A weighted operator seen as what it is: a matrix times patches of its input, plus a bias."""

from __future__ import annotations

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
    """A CONV_2D, DEPTHWISE_CONV_2D or FULLY_CONNECTED of a graph.

    What it computes, before its activation: for each output channel o and place, the sum over a patch's entries
    k of ``weights[o, k] * patch[k]``, plus ``bias[o]``. Patches are (height, width, channels) of the kernel; in a
    depthwise one, each output channel sees one channel of it only.

    Attributes:
        graph: that it belongs to.
        operator: in it.
    """

    graph: Graph
    operator: Operator

    @property
    def depthwise(self) -> bool:
        """Whether each output channel sees one input channel."""
        return self.operator.name == "DEPTHWISE_CONV_2D"

    @property
    def input(self) -> Tensor:
        """The activation that it reads."""
        return self.graph.tensors[self.operator.inputs[0]]

    @property
    def weights(self) -> Tensor:
        """Its kernel, as the file has it."""
        return self.graph.tensors[self.operator.inputs[1]]

    @property
    def bias(self) -> Tensor | None:
        """Its bias, (channels,), if it has one."""
        index = self.operator.inputs[2] if len(self.operator.inputs) > 2 else ABSENT
        return None if index == ABSENT else self.graph.tensors[index]

    @property
    def output(self) -> Tensor:
        """The activation that it makes."""
        return self.graph.tensors[self.operator.outputs[0]]

    @property
    def kernel(self) -> tuple[int, int]:
        """Height and width of a patch; (1, 1) for a FULLY_CONNECTED."""
        if len(self.weights.shape) == 2:
            return 1, 1
        _, height, width, _ = self.weights.shape
        return height, width

    def rows(self, weights: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Weights in the file's shape as (output channels, patch entries)."""
        if self.depthwise:
            return weights.reshape(-1, weights.shape[-1]).T
        return weights.reshape(len(weights), -1)

    def unrows(self, rows: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """The inverse of `rows`."""
        return (rows.T if self.depthwise else rows).reshape(self.weights.shape)

    def respond(self, rows: npt.NDArray[Any], patches: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """What the layer makes of patches without its bias: (count, output channels).

        Args:
            rows: weights as `rows` gives them.
            patches: (count, height, width, channels) of the kernel and the input.
        """
        count, channels = len(patches), self.input.shape[-1]
        entries = patches.reshape(count, -1, channels)  # (count, height * width, channels)
        if self.depthwise:
            seen = entries.repeat(len(rows) // channels, axis=2)
            return np.asarray(np.einsum("ok,nko->no", rows, seen))
        groups = channels * entries.shape[1] // rows.shape[1]
        seen = entries.reshape(count, -1, groups, channels // groups).transpose(2, 0, 1, 3).reshape(groups, count, -1)
        parts = rows.reshape(groups, -1, rows.shape[1])
        given = seen @ parts.swapaxes(1, 2)  # (groups, count, channels of the group)
        return np.asarray(given.transpose(1, 0, 2).reshape(count, -1))

    def output_size(self) -> tuple[int, int]:
        """Height and width of the output."""
        shape = self.output.shape
        return (shape[1], shape[2]) if len(shape) == 4 else (1, 1)

    def patches(
        self, activations: npt.NDArray[Any], positions: npt.NDArray[np.int64], padding: int = 0
    ) -> npt.NDArray[Any]:
        """Cut the patches at some positions out of its input.

        Args:
            activations: (items, ...) of the input tensor's shape, real numbers or the tensor's integers.
            positions: (count,) numbers of positions of the output, row by row.
            padding: what stands for 0: the zero point of integers.

        Returns:
            (items, count, height, width, channels) of the kernel and the input.
        """
        items = len(activations)
        if self.kernel == (1, 1) and self._strides() == (1, 1):
            flat = activations.reshape(items, int(np.prod(self.output_size())), -1)
            return flat[:, positions, np.newaxis, np.newaxis, :]
        rows, columns = np.divmod(positions, self.output_size()[1])
        height, width, _ = activations.shape[1:]
        down = self._source(0, rows)[:, :, np.newaxis]
        right = self._source(1, columns)[:, np.newaxis, :]
        # The nearest place inside, where the patch goes over the edge; then padding.
        result = activations[:, down.clip(0, height - 1), right.clip(0, width - 1)]
        result[:, (down < 0) | (down >= height) | (right < 0) | (right >= width)] = padding
        return result

    def mean_patch(self, activation: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Mean over all positions of the patches: (height, width, channels) of the kernel.

        Args:
            activation: one item of the input, or the mean of many; real numbers with 0 for 0.
        """
        rows, columns = self.output_size()
        if self.kernel == (1, 1) and self._strides() == (1, 1):
            flat = activation.reshape(rows * columns, -1)
            # By a matrix product, several times as fast as ``sum(axis=0)`` of a tall matrix.
            summed = np.ones(len(flat), flat.dtype) @ flat
            return np.asarray(summed / len(flat), np.float64)[np.newaxis, np.newaxis]
        height, width, channels = activation.shape
        down, right = self._read_inside
        # A row of 0 and 1 for each of the kernel's rows: one matrix product sums the rows of all positions.
        chosen = np.stack([np.bincount(numbers, minlength=height) for numbers in down]).astype(activation.dtype)
        summed = (chosen @ activation.reshape(height, -1)).reshape(-1, width, channels)
        patch = np.stack([summed[:, numbers].sum(axis=1, dtype=np.float64) for numbers in right], axis=1)
        return np.asarray(patch / (rows * columns), np.float64)

    @cached_property
    def _read_inside(self) -> tuple[list[npt.NDArray[np.int64]], list[npt.NDArray[np.int64]]]:
        """Rows of the input that each of the kernel's rows reads at all positions, padding left out; and columns."""
        found = [self._source(axis, np.arange(self.output_size()[axis])).T for axis in (0, 1)]
        down, right = (
            [n[(n >= 0) & (n < size)] for n in f] for f, size in zip(found, self.input.shape[1:3], strict=True)
        )
        return down, right

    def _strides(self) -> tuple[int, int]:
        if self.operator.name == "FULLY_CONNECTED":
            return 1, 1
        return int(self.operator.options.strideH), int(self.operator.options.strideW)

    def _source(self, axis: int, positions: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """Rows (axis 0) or columns (axis 1) of the input that patches come from; outside of it is padding.

        Args:
            axis: 0 or 1.
            positions: (count,) rows or columns of the output.

        Returns:
            (count, height or width of the kernel).
        """
        options = self.operator.options
        kernel, stride = self.kernel[axis], self._strides()[axis]
        dilation = (options.dilationHFactor, options.dilationWFactor)[axis]
        spread = (kernel - 1) * dilation + 1
        spare = max(0, (self.output_size()[axis] - 1) * stride + spread - self.input.shape[1 + axis])
        before = spare // 2 if options.padding == _SAME else 0
        first = positions[:, np.newaxis] * stride - before
        return np.asarray(first + np.arange(kernel) * dilation, np.int64)
