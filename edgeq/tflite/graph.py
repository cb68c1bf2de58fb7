"""Read the main graph of a .tflite file as operators and tensors, with the classes generated from TFLite's schema."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError, RuntimeUnavailableError
from edgeq.quantization import Quantization
from edgeq.tflite.checking import check_file

__all__ = ["ABSENT", "Graph", "Operator", "Tensor", "is_builtin", "load_schema", "read_graph"]

_NUMPY_TYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
_NUMPY_TYPES += ("float16", "float32", "float64", "complex64", "complex128")

ABSENT = -1
"""Index that stands for an optional input that an operator does not have, such as a missing bias."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Attributes:
        index: the tensor's index in the graph.
        name: the tensor's name in the file.
        shape: the tensor's shape, including the batch dimension, for example (1, 112, 112, 32).
        quantization: the tensor's type, scale and zero point.
        data: a constant's values, of `shape`; None for an activation.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    quantization: Quantization
    data: npt.NDArray[Any] | None

    def dequantize(self) -> npt.NDArray[np.float64]:
        """Return a constant's values as real numbers, an array of `shape`."""
        assert self.data is not None
        return self.quantization.dequantize(self.data)


@dataclass(frozen=True)
class Operator:
    """An operator of a graph.

    Attributes:
        index: the operator's position in the order of execution.
        name: the operator's type, named as in the schema, for example ``CONV_2D``.
        version: the operator's version. A runtime supports each type of operator up to some version.
        inputs: indices of the input tensors, including constants and `ABSENT`.
        outputs: indices of the output tensors.
        options: the schema's object with the options of this type of operator, or None.
    """

    index: int
    name: str
    version: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    options: Any


class Graph:
    """The main graph of a .tflite file.

    Attributes:
        path: the file's name in messages.
        content: the file's content.
        model: the whole model, an object of the schema's class ``ModelT``.
        tensors: the tensors, by index.
        operators: the operators, in the order of execution.
        inputs: indices of the input tensors.
        outputs: indices of the output tensors.
    """

    def __init__(self, content: bytes, path: str | Path) -> None:
        """Read a model.

        Args:
            content: the content of a .tflite file.
            path: the file's name in messages.

        Raises:
            ModelError: the content is damaged.
            RuntimeUnavailableError: ai-edge-litert, which provides the schema's classes, is not installed.
        """
        schema = load_schema()
        self.path = str(path)
        self.content = content
        try:
            self.model = schema.ModelT.InitFromPackedBuf(content, 0)
            main = self.model.subgraphs[0]
            self.inputs = tuple(int(i) for i in main.inputs)
            self.outputs = tuple(int(i) for i in main.outputs)
            self.tensors = [self._tensor(index, tensor) for index, tensor in enumerate(main.tensors)]
            self.operators = tuple(self._operator(index, operator) for index, operator in enumerate(main.operators))
        except Exception as error:  # damaged tables raise struct.error, IndexError, TypeError and others
            raise ModelError(f"{path}: the file is damaged: its tables are invalid ({type(error).__name__})") from None

    def is_constant(self, index: int) -> bool:
        """Return whether a tensor is constant or `ABSENT`."""
        return index == ABSENT or self.tensors[index].data is not None

    def activations(self, operator: Operator) -> tuple[int, ...]:
        """Return the indices of an operator's inputs that are activations, in order."""
        return tuple(index for index in operator.inputs if not self.is_constant(index))

    def dtypes(self, indices: Iterable[int]) -> set[str]:
        """Return the NumPy names of the types of tensors, ignoring `ABSENT`."""
        return {self.tensors[index].quantization.dtype for index in indices if index != ABSENT}

    @cached_property
    def consumers(self) -> dict[int, tuple[Operator, ...]]:
        """The operators that read each tensor, by tensor index."""
        readers: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for index in dict.fromkeys(operator.inputs):
                readers.setdefault(index, []).append(operator)
        return {index: tuple(found) for index, found in readers.items()}

    @cached_property
    def producers(self) -> dict[int, Operator]:
        """The operator that computes each tensor, by tensor index; constants and the graph's inputs have none."""
        return {index: operator for operator in self.operators for index in operator.outputs}

    def open_shape(self, index: int) -> tuple[int, ...]:
        """Return a tensor's shape, with -1 for each dynamic dimension."""
        signature = self.model.subgraphs[0].tensors[index].shapeSignature
        if signature is None or not len(signature):
            return self.tensors[index].shape
        return tuple(int(n) for n in signature)

    def buffer(self, index: int) -> bytes | npt.NDArray[np.uint8] | None:
        """Return a buffer's bytes, from inside or outside the flatbuffer; None if the buffer is empty."""
        buffer = self.model.buffers[index]
        if buffer.data is not None and len(buffer.data):
            data: npt.NDArray[np.uint8] = np.asarray(buffer.data, np.uint8)
            return data
        if buffer.offset > 1:  # outside the flatbuffer; 1 is a placeholder
            return self.content[buffer.offset : buffer.offset + buffer.size]
        return None

    def _tensor(self, index: int, tensor: Any) -> Tensor:
        dtype = _dtype_names().get(tensor.type, "void")
        shape = tuple(int(n) for n in tensor.shape) if tensor.shape is not None else ()
        quantization, parameters = Quantization(dtype), tensor.quantization
        if parameters is not None and parameters.scale is not None:
            zero_points = () if parameters.zeroPoint is None else parameters.zeroPoint
            # A one-dimensional tensor has only axis 0, but old files may state another.
            axis = parameters.quantizedDimension if len(shape) > 1 else 0
            quantization = Quantization.from_file(dtype, parameters.scale, zero_points, axis)
        raw = self.buffer(tensor.buffer)
        data = None
        if raw is not None and dtype != "void":
            data = np.frombuffer(raw, dtype).reshape(shape)  # a view: constants may be large
        name = (tensor.name or b"").decode("utf-8", "replace")
        return Tensor(index, name, shape, quantization, data)

    def _operator(self, index: int, operator: Any) -> Operator:
        code = self.model.operatorCodes[operator.opcodeIndex]
        number = max(code.builtinCode, code.deprecatedBuiltinCode)
        name = _operator_names().get(number, str(number))
        if name == "CUSTOM":
            name = (code.customCode or b"CUSTOM").decode("utf-8", "replace")
        return Operator(
            index,
            name,
            int(code.version),
            tuple(int(i) for i in operator.inputs) if operator.inputs is not None else (),
            tuple(int(i) for i in operator.outputs) if operator.outputs is not None else (),
            operator.builtinOptions,
        )


def read_graph(path: str | Path) -> Graph:
    """Read the main graph of a .tflite file.

    Raises:
        ModelError: the file does not exist, or is not a .tflite model.
        RuntimeUnavailableError: ai-edge-litert is not installed.
    """
    check_file(path)
    return Graph(Path(path).read_bytes(), path)


def is_builtin(operator: str) -> bool:
    """Return whether a type of operator is one of TFLite's own, not a custom one."""
    return operator in _operator_names().values()


def load_schema() -> Any:
    """Import the module of classes generated from TFLite's schema, which is part of ai-edge-litert.

    Raises:
        RuntimeUnavailableError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise RuntimeUnavailableError(
            "reading the graph of a .tflite file needs ai-edge-litert (pip install 'edgeq[convert]')"
        ) from None
    return schema_py_generated


@cache
def _operator_names() -> dict[int, str]:
    return _names_of("BuiltinOperator")


@cache
def _dtype_names() -> dict[int, str]:
    """Return the NumPy names of the schema's tensor types, without types that NumPy lacks."""
    names = {number: name.lower() for number, name in _names_of("TensorType").items()}
    return {number: name for number, name in names.items() if name in _NUMPY_TYPES}


def _names_of(enumeration: str) -> dict[int, str]:
    found = vars(getattr(load_schema(), enumeration))
    return {number: name for name, number in found.items() if not name.startswith("_")}
