"""Hold the activations of all images while a graph's operators run one by one; large activations are on disk."""

from __future__ import annotations

import math
from collections.abc import Sequence
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

    def __init__(self, graph: Graph, inputs: Sequence[npt.NDArray[Any]]) -> None:
        """Start with the graph's inputs.

        Args:
            graph: the graph.
            inputs: one array per input of the graph with its values for all images, (images, ...) of the input's type.
        """
        self._graph = graph
        self._readers = {index: len(operators) for index, operators in graph.consumers.items()}
        self.values: dict[int, npt.NDArray[Any]] = dict(zip(graph.inputs, inputs, strict=True))

    def run(self, runner: OperatorRunner, outputs: Sequence[int]) -> None:
        """Run an operator on all images.

        Args:
            runner: the operator's runner.
            outputs: indices of the tensors that the operator computes.

        Raises:
            InputError: the disk has no room for the tensors' values.
            ModelError: the runtime cannot run the operator.
        """
        inputs = [self.values[index] for index in runner.inputs]
        results = runner.run_all(inputs, [self._allocated(index, len(inputs[0])) for index in outputs])
        self.values.update(zip(outputs, results, strict=True))
        for index in runner.inputs:
            self._readers[index] -= 1
            if not self._readers[index]:
                del self.values[index]

    def _allocated(self, index: int, images: int) -> npt.NDArray[Any]:
        """Return an array for a tensor's values, in memory or on disk."""
        tensor = self._graph.tensors[index]
        dtype, shape = np.dtype(tensor.quantization.dtype), (images, *tensor.shape[1:])
        in_memory = dtype.itemsize * math.prod(shape) <= _IN_MEMORY_BYTES
        return np.empty(shape, dtype) if in_memory else temporary_array(dtype, shape)
