"""Hold the activations of all images while a graph's operators run one by one; large activations are on disk."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.arrays import temporary_array
from edgeq.graphs import OperatorRunner
from edgeq.tflite.graph import Graph

__all__ = ["ActivationStore"]

_IN_MEMORY_BYTES = 1 << 28


class ActivationStore:
    """Holds a graph's activations from the operator that computes them to the last one that reads them.

    Attributes:
        values: the values of each tensor for all images, by tensor index: (images, ...) of the tensor's type.
    """

    def __init__(self, graph: Graph, tensors: npt.NDArray[Any]) -> None:
        """Start with the graph's input.

        Args:
            graph: the graph.
            tensors: its input for all images, (images, ...) of the input's type.
        """
        self._graph = graph
        self._readers = {index: len(operators) for index, operators in graph.consumers.items()}
        self.values: dict[int, npt.NDArray[Any]] = {graph.inputs[0]: tensors}

    def run(self, runner: OperatorRunner, output: int) -> None:
        """Run an operator on all images.

        Args:
            runner: the operator's runner.
            output: index of the tensor that the operator computes.

        Raises:
            InputError: the disk has no room for the tensor's values.
            ModelError: the runtime cannot run the operator.
        """
        inputs = [self.values[index] for index in runner.inputs]
        tensor = self._graph.tensors[output]
        dtype, shape = np.dtype(tensor.quantization.dtype), (len(inputs[0]), *tensor.shape[1:])
        in_memory = dtype.itemsize * int(np.prod(shape)) <= _IN_MEMORY_BYTES
        out: npt.NDArray[Any] = np.empty(shape, dtype) if in_memory else temporary_array(dtype, shape)
        self.values[output] = runner.run(inputs, out)
        for index in runner.inputs:
            self._readers[index] -= 1
            if not self._readers[index]:
                del self.values[index]
