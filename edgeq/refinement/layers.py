"""A weighted operator seen as what it is: a matrix times patches of its input, plus a bias."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graphs import Graph, Operator, Tensor
from edgeq.graphs.graph import ABSENT

__all__ = ["Layer"]

_SAME = 0  # schema.fbs: Padding.SAME
Floats = npt.NDArray[np.float32]


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

    def respond(self, rows: npt.NDArray[np.float64], patch: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """What the layer makes of one patch without its bias: (output channels,) float64.

        Args:
            rows: weights as `rows` gives them.
            patch: (height, width, channels) of the kernel and the input.
        """
        entries = patch.reshape(-1, patch.shape[-1])  # (height * width, channels)
        if self.depthwise:
            seen = entries.repeat(len(rows) // entries.shape[1], axis=1).T
            return np.asarray((rows * seen).sum(axis=1), np.float64)
        groups = patch.shape[-1] // (rows.shape[1] // len(entries))
        parts = rows.reshape(groups, -1, rows.shape[1])
        seen = entries.reshape(len(entries), groups, -1).transpose(1, 0, 2).reshape(groups, -1)
        return np.asarray(parts @ seen[:, :, np.newaxis], np.float64).reshape(-1)

    def places(self) -> tuple[int, int]:
        """Height and width of the output."""
        shape = self.output.shape
        return (shape[1], shape[2]) if len(shape) == 4 else (1, 1)

    def patches(self, activations: npt.NDArray[Any], places: npt.NDArray[np.int64]) -> npt.NDArray[Any]:
        """Cut the patches at some places out of its input.

        Args:
            activations: (items, ...) of the input tensor's shape, real numbers with 0 for 0 (so that padding is 0).
            places: (count,) numbers of places of the output, row by row.

        Returns:
            (items, count, height, width, channels) of the kernel and the input.
        """
        items = len(activations)
        if self.kernel == (1, 1) and self._strides() == (1, 1):
            flat = activations.reshape(items, int(np.prod(self.places())), -1)
            return flat[:, places, np.newaxis, np.newaxis, :]
        rows, columns = np.divmod(places, self.places()[1])
        height, width, channels = activations.shape[1:]
        result = np.zeros((items, len(places), *self.kernel, channels), activations.dtype)
        for y in range(self.kernel[0]):
            for x in range(self.kernel[1]):
                down, right = self._source(rows, columns, y, x)
                inside = (down >= 0) & (down < height) & (right >= 0) & (right < width)
                result[:, inside, y, x] = activations[:, down[inside], right[inside]]
        return result

    def mean_patch(self, activations: Floats) -> npt.NDArray[np.float64]:
        """Mean over all items and places of the patches: (height, width, channels) of the kernel.

        Args:
            activations: (items, ...) float32 of the input tensor's shape, with 0 for 0.
        """
        items = len(activations)
        (rows, columns), (kernel_height, kernel_width) = self.places(), self.kernel
        if self.kernel == (1, 1) and self._strides() == (1, 1):
            flat = activations.reshape(items * rows * columns, -1)
            return _column_sums(flat).astype(np.float64)[np.newaxis, np.newaxis] / len(flat)
        height, width, channels = activations.shape[1:]
        flat = activations.reshape(items, height, width * channels)
        result = np.zeros((kernel_height, kernel_width, channels))
        for y in range(kernel_height):
            down = self._source(np.arange(rows), np.arange(rows), y, 0)[0]
            # Rows as a 0/1 vector: one matrix product sums them for all columns and channels.
            chosen = np.bincount(down[(down >= 0) & (down < height)], minlength=height).astype(np.float32)
            summed = np.einsum("h,ihc->c", chosen, flat, optimize=True).reshape(width, channels)
            for x in range(kernel_width):
                right = self._source(np.arange(columns), np.arange(columns), 0, x)[1]
                inside = right[(right >= 0) & (right < width)]
                result[y, x] = summed[inside].sum(axis=0, dtype=np.float64)
        return result / (items * rows * columns)

    def _strides(self) -> tuple[int, int]:
        if self.operator.name == "FULLY_CONNECTED":
            return 1, 1
        return int(self.operator.options.strideH), int(self.operator.options.strideW)

    def _source(
        self, rows: npt.NDArray[np.int64], columns: npt.NDArray[np.int64], y: int, x: int
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.int64]]:
        """Row and column of the input that entry (y, x) of the patch at a place comes from; outside is padding."""
        options = self.operator.options
        found = []
        for numbers, size, places, kernel, offset, stride, dilation in zip(
            (rows, columns),
            self.input.shape[1:3],
            self.places(),
            self.kernel,
            (y, x),
            self._strides(),
            (options.dilationHFactor, options.dilationWFactor),
            strict=True,
        ):
            spread = (kernel - 1) * dilation + 1
            before = max(0, (places - 1) * stride + spread - size) // 2 if options.padding == _SAME else 0
            found.append(numbers * stride + offset * dilation - before)
        return found[0], found[1]


def _column_sums(matrix: Floats) -> Floats:
    """Sums of the columns by a matrix product, several times as fast as ``sum(axis=0)`` of a tall matrix."""
    return np.ones(len(matrix), np.float32) @ matrix
