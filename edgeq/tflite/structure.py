"""Check what a model's tables say before a runtime reads them: indices, shapes, sizes of constants, quantization.

Kernels in C++ rely on these numbers, and not every version of every runtime checks them. Uses only the standard
library.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from mmap import mmap
from typing import Any

from edgeq.tflite import flatbuffer, schema
from edgeq.tflite.layout import LayoutError, check_layout
from edgeq.tflite.sparsity import constant_items

__all__ = ["MOST_ELEMENTS", "Operation", "Part", "Problem", "Structure", "TensorFacts", "read_structure"]

MOST_ELEMENTS = 2**31 - 1
"""Kernels count a tensor's elements in a 32-bit integer."""

_MOST_INDICES = 1_000_000  # of all operators; checking more would take seconds
_VERSION = 3
_STRING = 5
_BITS = {0: 32, 1: 16, 2: 32, 3: 8, 4: 64, 6: 8, 7: 16, 8: 64, 9: 8, 10: 64, 11: 128, 12: 64, 15: 32, 16: 16, 17: 4,
         18: 16, 19: 2, 20: 4, 21: 8, 22: 8}  # fmt: skip
_RESOURCES = (13, 14)  # RESOURCE and VARIANT, which have no size
_QUANTIZED = (2, 3, 4, 7, 9, 15, 16, 17, 19, 20)  # integer types, of which the scale is used


class Problem(ValueError):  # noqa: N818 (the caller turns it into a ModelError with the file's name)
    """A model breaks a rule; the message says which, without the file's name."""


@dataclass(frozen=True)
class TensorFacts:
    """What the checks of operators need to know of a tensor.

    Attributes:
        shape: the tensor's shape.
        kind: the number of its type in the enumeration ``TensorType``.
        data: position and length of a constant's bytes in the file; None for an activation.
        is_variable: whether it keeps its value from one run to the next.
    """

    shape: tuple[int, ...]
    kind: int
    data: tuple[int, int] | None
    is_variable: bool

    @property
    def elements(self) -> int:
        """The number of elements; 1 for a scalar."""
        return math.prod(self.shape)

    @property
    def size_bytes(self) -> int:
        """The size in bytes; 0 if the type has no fixed size."""
        return -(-self.elements * _BITS.get(self.kind, 0) // 8)


@dataclass(frozen=True)
class Operation:
    """An operator.

    Attributes:
        code: the index of its type in the model's list of operator codes.
        inputs: indices of the input tensors; -1 for one that is absent.
        outputs: indices of the output tensors.
        table: the operator's table.
    """

    code: int
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    table: flatbuffer.Table


@dataclass(frozen=True)
class Part:
    """A subgraph.

    Attributes:
        tensors: the tensors, by index.
        inputs: indices of the input tensors.
        outputs: indices of the output tensors.
        operations: the operators, in the order of execution.
    """

    tensors: tuple[TensorFacts, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    operations: tuple[Operation, ...]


@dataclass(frozen=True)
class Structure:
    """A model whose tables were checked.

    Attributes:
        data: the file's content.
        codes: number of each type of operator in the enumeration ``BuiltinOperator``, and its name if it is custom.
        parts: the subgraphs; the first one is the main graph.
    """

    data: bytes | bytearray | mmap
    codes: tuple[tuple[int, str], ...]
    parts: tuple[Part, ...]


def read_structure(data: bytes | bytearray | mmap) -> Structure:
    """Read a model, and check everything but its operators.

    Args:
        data: the content of a .tflite file.

    Raises:
        Problem: the model breaks a rule.
    """
    try:
        check_layout(data)
        return _Reader(data).read()
    except (LayoutError, struct.error, IndexError) as error:
        raise Problem(str(error)) from None


def in_range(what: str, index: int, count: int, things: str, least: int = 0) -> None:
    """Raise a `Problem` if an index is not that of one of `count` things."""
    if not least <= index < count:
        raise Problem(f"{what} {index}, but the model has {count} {things}")


class _Reader:
    def __init__(self, data: bytes | bytearray | mmap) -> None:
        self._data, self._size = data, len(data)
        self._model = flatbuffer.root(data)
        self._indices = 0
        self._buffers: list[tuple[int, int] | None] = []

    def read(self) -> Structure:
        model = self._model
        if model.scalar(schema.Model.VERSION, "<I") != _VERSION:
            raise Problem(f"its schema has version {model.scalar(schema.Model.VERSION, '<I')}, not {_VERSION}")
        self._buffers = [self._buffer(i, table) for i, table in enumerate(model.tables(schema.Model.BUFFERS))]
        codes = tuple(self._code(table) for table in model.tables(schema.Model.OPERATOR_CODES))
        parts = tuple(self._part(table) for table in model.tables(schema.Model.SUBGRAPHS))
        if not parts:
            raise Problem("it has no graph")
        for index in model.integers(schema.Model.METADATA_BUFFER):
            in_range("its metadata is in buffer", index, len(self._buffers), "buffers")
        for entry in model.tables(schema.Model.METADATA):
            index = entry.scalar(schema.Metadata.BUFFER, "<I")
            in_range("its metadata is in buffer", index, len(self._buffers), "buffers")
        for signature in model.tables(schema.Model.SIGNATURES):
            index = signature.scalar(schema.Signature.SUBGRAPH, "<I")
            in_range("its signature is of subgraph", index, len(parts), "subgraphs")
            for side in (schema.Signature.INPUTS, schema.Signature.OUTPUTS):
                for tensor in signature.tables(side):
                    number = tensor.scalar(schema.SignatureTensor.INDEX, "<I")
                    in_range("its signature names tensor", number, len(parts[index].tensors), "tensors")
        return Structure(self._data, codes, parts)

    def _buffer(self, number: int, table: flatbuffer.Table) -> tuple[int, int] | None:
        """Return the position and length of a buffer's bytes, inside or outside the flatbuffer; None if it is empty."""
        start, length = table.vector(schema.Buffer.DATA)
        offset, size = table.scalar(schema.Buffer.OFFSET, "<Q"), table.scalar(schema.Buffer.SIZE, "<Q")
        if offset + size > max(self._size, 2):  # an offset of 1 is a placeholder
            raise Problem(f"buffer {number} ends at byte {offset + size}, but the file has {self._size}")
        if length:
            return start, length
        return (offset, size) if offset > 1 and size else None

    @staticmethod
    def _code(table: flatbuffer.Table) -> tuple[int, str]:
        # Newer converters write the operator's number to a new field, and at most 127 to the deprecated one.
        old = table.scalar(schema.OperatorCode.DEPRECATED_BUILTIN, "<b")
        number = max(old, table.scalar(schema.OperatorCode.BUILTIN, "<i"))
        if number < 0:
            raise Problem(f"an operator has the type {number}")
        return number, table.raw(schema.OperatorCode.CUSTOM).decode("utf-8", "replace")

    def _part(self, table: flatbuffer.Table) -> Part:
        tensors = tuple(self._tensor(i, tensor) for i, tensor in enumerate(table.tables(schema.Subgraph.TENSORS)))
        ends = [self._list(table, field) for field in (schema.Subgraph.INPUTS, schema.Subgraph.OUTPUTS)]
        for what, indices in zip(("input", "output"), ends, strict=True):
            for index in indices:
                in_range(f"its {what} is tensor", index, len(tensors), "tensors")
        operations = tuple(self._operation(operator) for operator in table.tables(schema.Subgraph.OPERATORS))
        return Part(tensors, ends[0], ends[1], operations)

    def _operation(self, table: flatbuffer.Table) -> Operation:
        offset = table.scalar(schema.Operator.LARGE_OPTIONS_OFFSET, "<Q")
        end = offset + table.scalar(schema.Operator.LARGE_OPTIONS_SIZE, "<Q")
        if offset > 1 and end > self._size:
            raise Problem(f"an operator's options end at byte {end}, but the file has {self._size}")
        code = table.scalar(schema.Operator.CODE_INDEX, "<I")
        return Operation(
            code, self._list(table, schema.Operator.INPUTS), self._list(table, schema.Operator.OUTPUTS), table
        )

    def _list(self, table: flatbuffer.Table, field: int) -> tuple[int, ...]:
        indices = table.integers(field)
        self._indices += len(indices)
        if self._indices > _MOST_INDICES:
            raise Problem(f"its operators have more than {_MOST_INDICES:,} inputs and outputs")
        return indices

    def _tensor(self, index: int, table: flatbuffer.Table) -> TensorFacts:
        shape, kind = table.integers(schema.Tensor.SHAPE), table.scalar(schema.Tensor.TYPE, "<b")
        what = f"tensor {index}"
        if any(n < 0 for n in shape) or math.prod(max(1, n) for n in shape) > MOST_ELEMENTS:
            raise Problem(f"{what} has the shape {_dimensions(shape)}")
        if kind not in _BITS and kind != _STRING and kind not in _RESOURCES:
            raise Problem(f"{what} has the type {kind}, which TFLite does not have")
        signature = table.integers(schema.Tensor.SHAPE_SIGNATURE)
        if signature and ((shape and len(signature) != len(shape)) or any(n < -1 for n in signature)):
            raise Problem(f"{what} has the shape {_dimensions(shape)}, but the signature {_dimensions(signature)}")
        number = table.scalar(schema.Tensor.BUFFER, "<I")
        if number:  # buffer 0 stands for no data, even in a file without buffers
            in_range(f"{what} is in buffer", number, len(self._buffers), "buffers")
        external = table.scalar(schema.Tensor.EXTERNAL_BUFFER, "<I")
        if external:
            count = self._model.length(schema.Model.EXTERNAL_BUFFERS)
            in_range(f"{what} is in external buffer", external - 1, count, "external buffers")
        data = self._buffers[number] if self._buffers else None
        tensor = TensorFacts(shape, kind, data, bool(table.scalar(schema.Tensor.IS_VARIABLE, "<b")))
        quantization = table.table(schema.Tensor.QUANTIZATION)
        if quantization is not None:
            _check_quantization(what, tensor, quantization)
        self._check_data(what, tensor, table.table(schema.Tensor.SPARSITY))
        return tensor

    def _check_data(self, what: str, tensor: TensorFacts, sparsity: flatbuffer.Table | None) -> None:
        """Check that a constant has as many bytes as its shape and type need."""
        if tensor.data is None:
            return
        start, length = tensor.data
        if tensor.kind == _STRING:
            _check_strings(what, self._data, start, length, tensor.elements)
            return
        needed = tensor.size_bytes
        if sparsity is not None:
            try:
                needed = -(-constant_items(sparsity, tensor.shape) * _BITS.get(tensor.kind, 0) // 8)
            except ValueError as error:
                raise Problem(f"{what} is sparse, but {error}") from None
        if tensor.kind not in _RESOURCES and length != needed:
            raise Problem(f"{what}, {_dimensions(tensor.shape)}, needs {needed:,} bytes, but has {length:,}")


def _dimensions(shape: Sequence[int]) -> str:
    shown = "x".join(map(str, shape[:9])) + ("x..." if len(shape) > 9 else "")
    return shown or "of a scalar"


def _check_quantization(what: str, tensor: TensorFacts, table: flatbuffer.Table) -> None:
    """Check the numbers of scales and zero points, and their values."""
    details = table.scalar(schema.Quantization.DETAILS_TYPE, "<B")
    if details in (schema.Quantization.IS_BLOCKWISE, schema.Quantization.IS_MULTI_AXIS):
        _check_blocks(what, table)
    start, count = table.vector(schema.Quantization.SCALE)
    if not count:
        return
    shape = tensor.shape
    if count > 1:
        axis = table.scalar(schema.Quantization.DIMENSION, "<i")
        axis = 0 if len(shape) == 1 else axis  # files of 2020 and before state that of the weights for a bias
        size = shape[axis] if 0 <= axis < len(shape) else None
        if count != size:
            raise Problem(f"{what}, {_dimensions(shape)}, has {count} scales along dimension {axis}")
    points = table.length(schema.Quantization.ZERO_POINT)
    if points not in (0, count):
        raise Problem(f"{what} has {count} scales, but {points} zero points")
    if tensor.kind not in _QUANTIZED:
        return
    scales = struct.unpack_from(f"<{count}f", table.data, start)
    if not all(math.isfinite(scale) and scale >= 0 for scale in scales):  # some converters write 0 for "not quantized"
        raise Problem(f"{what} has the scale {next(s for s in scales if not (math.isfinite(s) and s >= 0))}")


def _check_blocks(what: str, table: flatbuffer.Table) -> None:
    details = table.table(schema.Quantization.DETAILS)
    if details is None or details.scalar(schema.BlockwiseQuantization.BLOCK_SIZE, "<i") < 0:
        raise Problem(f"{what} is quantized by blocks, but has none")


def _check_strings(what: str, data: Any, start: int, length: int, count: int) -> None:
    """Check a constant of strings: their number, the offset of each and the end of the last, then the characters."""
    header = 4 * (count + 2)
    if length < header or struct.unpack_from("<i", data, start)[0] != count:
        raise Problem(f"{what} does not hold {count} strings")
    offsets = struct.unpack_from(f"<{count + 1}i", data, start + 4)
    if offsets[0] < header or list(offsets) != sorted(offsets) or offsets[-1] > length:
        raise Problem(f"{what} has strings that are not within it")
