"""Run parts of a graph in the runtime: one operator on many items, or the whole graph with inner tensors as outputs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError, one_line
from edgeq.graphs.pairing import WEIGHTED
from edgeq.runtime.backends import open_content
from edgeq.tflite.extraction import one_operator, with_outputs
from edgeq.tflite.graph import Graph, Operator

__all__ = ["OperatorRunner", "TappedRunner"]

_CHUNK_BYTES = 1 << 22
"""Size of the activations that an operator processes at a time, small enough for the processor's cache."""

_ITEM_BY_ITEM = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "ADD", "SUB", "MUL", "MEAN", "AVERAGE_POOL_2D", "MAX_POOL_2D",
    "SOFTMAX", "LOGISTIC", "HARD_SWISH", "RELU", "RELU6", "RELU_0_TO_1", "LEAKY_RELU", "PRELU", "TANH", "QUANTIZE",
    "DEQUANTIZE", "PAD", "MAXIMUM", "MINIMUM", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "ELU", "GELU",
)  # fmt: skip
"""Operators that process the items of a batch independently. Others run one item at a time."""

_RESHAPING = ("RESHAPE", "SQUEEZE", "EXPAND_DIMS")


class OperatorRunner:
    """Runs one operator of a graph alone, with the runtime's own kernel, on any number of items."""

    def __init__(self, graph: Graph, operator: Operator, runtime: str | None = None, threads: int = 1) -> None:
        """Prepare the operator.

        Args:
            graph: the operator's graph.
            operator: an operator whose activations and outputs have batch size 1 in their first dimension.
            runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
            threads: number of threads that the kernel may use.

        Raises:
            ModelError: the runtime cannot load the operator.
        """
        self.name = f"{graph.path}, operator {operator.index} {operator.name}"
        self.inputs = tuple(dict.fromkeys(graph.activations(operator)))
        self._made = [graph.tensors[index] for index in operator.outputs]
        self._reshapes = operator.name in _RESHAPING
        if self._reshapes:
            return
        tensors = [graph.tensors[i] for i in (*self.inputs, *operator.outputs)]
        item_bytes = sum(int(np.prod(t.shape)) * np.dtype(t.quantization.dtype).itemsize for t in tensors)
        alike = operator.name in _ITEM_BY_ITEM and not (operator.name in WEIGHTED and len(self.inputs) > 1)
        self._batch = max(1, _CHUNK_BYTES // item_bytes) if alike else 1
        self._graph, self._operator, self._runtime, self._threads = graph, operator, runtime, threads
        self._interpreters: dict[int, Any] = {}

    def run(self, activations: Sequence[npt.NDArray[Any]]) -> npt.NDArray[Any]:
        """Run the operator on all items and return its first output; otherwise as :meth:`run_all`."""
        return self.run_all(activations)[0]

    def run_all(
        self, activations: Sequence[npt.NDArray[Any]], results: Sequence[npt.NDArray[Any]] | None = None
    ) -> list[npt.NDArray[Any]]:
        """Run the operator on all items.

        Args:
            activations: one array per input tensor in `inputs`, (items, ...) of the tensor's type.
            results: arrays to write to, one per output, (items, ...) of the output's type; None to allocate them.

        Returns:
            One array per output, (items, ...) of the output's type.

        Raises:
            ModelError: the kernel failed.
        """
        items = len(activations[0])
        shapes = [(items, *tensor.shape[1:]) for tensor in self._made]
        if self._reshapes:
            return [activations[0].reshape(shapes[0])]
        if results is None:
            types = [tensor.quantization.dtype for tensor in self._made]
            results = [np.empty(shape, dtype) for shape, dtype in zip(shapes, types, strict=True)]
        usual = _even_batch(items, self._batch)
        for start in range(0, items, usual):
            batch = min(usual, items - start)
            interpreter, inputs, outputs = self._interpreter(batch)
            try:
                for index, values in zip(inputs, activations, strict=True):
                    interpreter.set_tensor(index, values[start : start + batch])
                interpreter.invoke()
                for index, values in zip(outputs, results, strict=True):
                    values[start : start + batch] = interpreter.tensor(index)()
            except (RuntimeError, ValueError) as error:
                raise ModelError(f"{self.name}: running it failed ({one_line(error)})") from None
        return list(results)

    def _interpreter(self, batch: int) -> tuple[Any, list[int], list[int]]:
        """Return the interpreter for a batch size (the usual one, or the remainder), its inputs and its outputs."""
        if batch not in self._interpreters:
            content = one_operator(self._graph, self._operator, batch)
            interpreter = open_content(content, self.name, self._runtime, self._threads)
            inputs = [int(details["index"]) for details in interpreter.get_input_details()]
            outputs = [int(details["index"]) for details in interpreter.get_output_details()]
            self._interpreters[batch] = interpreter, inputs, outputs
        found: tuple[Any, list[int], list[int]] = self._interpreters[batch]
        return found


class TappedRunner:
    """Runs a whole graph, one item at a time, and returns inner tensors."""

    def __init__(self, graph: Graph, tensors: Sequence[int], runtime: str | None = None, threads: int = 1) -> None:
        """Prepare the graph.

        Args:
            graph: the graph.
            tensors: indices of the activations to return.
            runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
            threads: number of threads that the kernels may use.

        Raises:
            ModelError: the runtime cannot load the graph.
        """
        self._path = graph.path
        # An input cannot be an output of the model, because no operator computes it: `run` returns it itself.
        self._given = graph.inputs
        self._tensors = tuple(dict.fromkeys(tensors))
        computed = [index for index in self._tensors if index not in self._given]
        self._interpreter = open_content(with_outputs(graph, computed), graph.path, runtime, threads)
        self._inputs = [int(details["index"]) for details in self._interpreter.get_input_details()]
        outputs = [int(details["index"]) for details in self._interpreter.get_output_details()]
        self._outputs = dict(zip(computed, outputs, strict=True))

    def run(self, *tensors: npt.NDArray[Any]) -> dict[int, npt.NDArray[Any]]:
        """Run the graph on one item.

        Args:
            *tensors: one array per input of the graph, of the input's shape and type.

        Returns:
            Each requested tensor by its index in the graph, (1, ...). They are views of the runtime's memory: delete
            them before the next run.

        Raises:
            ModelError: the run failed.
        """
        try:
            for index, tensor in zip(self._inputs, tensors, strict=True):
                self._interpreter.set_tensor(index, tensor)
            self._interpreter.invoke()
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self._path}: running the model failed ({one_line(error)})") from None
        results = {index: self._interpreter.tensor(output)() for index, output in self._outputs.items()}
        given = dict(zip(self._given, tensors, strict=True))
        return results | {index: given[index] for index in self._tensors if index in given}


def _even_batch(items: int, most: int) -> int:
    """Return a batch size, if possible without a remainder, which would need a second interpreter."""
    even = next(batch for batch in range(min(most, items), 0, -1) if items % batch == 0)
    return even if 2 * even >= most else most
