"""The activations of all images on their way through a graph: only those still needed, on disk where they are large."""

from __future__ import annotations

import tempfile
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graphs import OperatorRunner
from edgeq.tflite.graph import Graph

__all__ = ["Flow"]

_IN_MEMORY_BYTES = 1 << 28


class Flow:
    """Holds a graph's activations while its operators run one after the other.

    Attributes:
        values: each tensor's values for all images, (images, ...), from its making to its last use.
    """

    def __init__(self, graph: Graph, tensors: npt.NDArray[Any]) -> None:
        """Begin with the graph's input, (images, ...)."""
        self._graph = graph
        self._readers = {index: len(operators) for index, operators in graph.consumers.items()}
        self.values: dict[int, npt.NDArray[Any]] = {graph.inputs[0]: tensors}

    def run(self, runner: OperatorRunner, output: int) -> None:
        """Run an operator over all images; `output` is the index of the tensor that it makes."""
        inputs = [self.values[index] for index in runner.inputs]
        tensor = self._graph.tensors[output]
        room = _room((len(inputs[0]), *tensor.shape[1:]), np.dtype(tensor.quantization.dtype))
        self.values[output] = runner.run(inputs, room)
        for index in runner.inputs:
            self._readers[index] -= 1
            if not self._readers[index]:
                del self.values[index]


def _room(shape: tuple[int, ...], dtype: np.dtype[Any]) -> npt.NDArray[Any]:
    """An array to fill: in memory, or in a temporary file that goes when the array does."""
    if int(np.prod(shape)) * dtype.itemsize <= _IN_MEMORY_BYTES:
        return np.empty(shape, dtype)
    with tempfile.TemporaryFile() as file:  # the mapping keeps it until the end
        return np.memmap(file, dtype, "w+", shape=shape)
