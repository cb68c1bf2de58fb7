"""The main graph of a .tflite file as operators and tensors, read with the classes generated from TFLite's schema."""

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
from edgeq.tflite.header import check_file

__all__ = ["ABSENT", "Graph", "Operator", "Tensor", "load_schema", "read_graph"]

_NUMPY_TYPES = ("bool", *(f"{kind}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)))
_NUMPY_TYPES += ("float16", "float32", "float64", "complex64", "complex128")

ABSENT = -1
"""Index of an optional tensor that an operator does without, such as a missing bias."""


@dataclass(frozen=True)
class Tensor:
    """A tensor of a graph.

    Attributes:
        index: its number in the graph.
        name: as in the file.
        shape: with the batch, for instance (1, 112, 112, 32).
        quantization: type, scale and zero point.
        data: a constant's values, of `shape`; None for an activation.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    quantization: Quantization
    data: npt.NDArray[Any] | None

    def dequantize(self) -> npt.NDArray[np.float64]:
        """Turn a constant's values into real numbers, of `shape`."""
        assert self.data is not None
        return self.quantization.dequantize(self.data)


@dataclass(frozen=True)
class Operator:
    """One operation of a graph.

    Attributes:
        index: its position in the order of execution.
        name: as in the schema, for instance ``CONV_2D``.
        version: of the operator; a runtime supports versions up to one of its own.
        inputs: indices of its input tensors, including constants and `ABSENT`.
        outputs: indices of its output tensors.
        options: the schema's object for its kind, or None.
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
        path: what to call the file in messages.
        content: the file's bytes.
        model: the whole model as the schema's ``ModelT``.
        tensors: by index.
        operators: in the order of execution.
        inputs: indices of the input tensors.
        outputs: indices of the output tensors.
    """

    def __init__(self, content: bytes, path: str | Path) -> None:
        """Read a model.

        Args:
            content: of a .tflite file.
            path: what to call the file in messages.

        Raises:
            ModelError: the content is damaged.
            RuntimeUnavailableError: ai-edge-litert, which has the schema's classes, is missing.
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
        except Exception as error:  # damaged tables surface as struct.error, IndexError, TypeError, ...
            raise ModelError(f"{path}: damaged, its tables make no sense ({type(error).__name__})") from None

    def is_constant(self, index: int) -> bool:
        """Tell whether a tensor is constant or `ABSENT`."""
        return index == ABSENT or self.tensors[index].data is not None

    def activations(self, operator: Operator) -> tuple[int, ...]:
        """Indices of those inputs of an operator that are computed, in their order."""
        return tuple(index for index in operator.inputs if not self.is_constant(index))

    def dtypes(self, indices: Iterable[int]) -> set[str]:
        """NumPy names of the types of some tensors; `ABSENT` ones have none."""
        return {self.tensors[index].quantization.dtype for index in indices if index != ABSENT}

    @cached_property
    def consumers(self) -> dict[int, tuple[Operator, ...]]:
        """The operators that read each tensor, by its index."""
        readers: dict[int, list[Operator]] = {}
        for operator in self.operators:
            for index in dict.fromkeys(operator.inputs):
                readers.setdefault(index, []).append(operator)
        return {index: tuple(found) for index, found in readers.items()}

    @cached_property
    def producers(self) -> dict[int, Operator]:
        """The operator that computes each tensor, by its index; constants and inputs have none."""
        return {index: operator for operator in self.operators for index in operator.outputs}

    def open_shape(self, index: int) -> tuple[int, ...]:
        """A tensor's shape with -1 for each dimension that the file leaves open."""
        signature = self.model.subgraphs[0].tensors[index].shapeSignature
        if signature is None or not len(signature):
            return self.tensors[index].shape
        return tuple(int(n) for n in signature)

    def buffer(self, index: int) -> bytes | npt.NDArray[np.uint8] | None:
        """A buffer's bytes, from inside or outside the flatbuffer; None for an empty buffer."""
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
            # A one-dimensional tensor has only axis 0, whatever old files say.
            axis = parameters.quantizedDimension if len(shape) > 1 else 0
            quantization = Quantization.from_file(dtype, parameters.scale, zero_points, axis)
        raw = self.buffer(tensor.buffer)
        data = None
        if raw is not None and dtype != "void":
            data = np.frombuffer(bytes(raw), dtype).reshape(shape)
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
        ModelError: there is no such file, or it is no .tflite model.
        RuntimeUnavailableError: ai-edge-litert is not installed.
    """
    check_file(path)
    return Graph(Path(path).read_bytes(), path)


def load_schema() -> Any:
    """Import the module of classes generated from TFLite's schema, which ai-edge-litert carries.

    Raises:
        RuntimeUnavailableError: ai-edge-litert is not installed.
    """
    try:
        from ai_edge_litert import schema_py_generated
    except ImportError:
        raise RuntimeUnavailableError(
            "looking into a .tflite file needs ai-edge-litert (pip install 'edgeq[convert]')"
        ) from None
    return schema_py_generated


@cache
def _operator_names() -> dict[int, str]:
    return _names_of("BuiltinOperator")


@cache
def _dtype_names() -> dict[int, str]:
    """NumPy names of the schema's tensor types, without those that NumPy lacks."""
    names = {number: name.lower() for number, name in _names_of("TensorType").items()}
    return {number: name for number, name in names.items() if name in _NUMPY_TYPES}


def _names_of(enumeration: str) -> dict[int, str]:
    found = vars(getattr(load_schema(), enumeration))
    return {number: name for name, number in found.items() if not name.startswith("_")}
