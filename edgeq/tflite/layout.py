"""Check that every table and vector of a .tflite FlatBuffer is within the file, as FlatBuffers' own verifier does.

A runtime follows the file's offsets in C++. After this check, none of them leads out of the file. The numbers that the
tables hold, such as indices of tensors, are checked by :mod:`edgeq.tflite.structure`.

Uses only the standard library, and reads tables only, not weights.
"""

from __future__ import annotations

import struct
from mmap import mmap

__all__ = ["LayoutError", "check_layout"]

_MOST_TABLES = 200_000
"""A model with more tables is refused, because reading it would take seconds. Large language models have 10,000."""

_STRING, _TABLE, _TABLES, _UNION = "string", "table", "tables", "union"
_Field = tuple[int, str, int | str | tuple[str, str | int]]

# The fields of each table: number, name, and the size of a scalar in bytes, or the kind and content of anything else.
_BYTES, _INTS, _LONGS = ("vector", 1), ("vector", 4), ("vector", 8)
_TABLES_OF_MODEL: dict[str, tuple[_Field, ...]] = {
    "Model": (
        (0, "version", 4),
        (1, "operator_codes", (_TABLES, "OperatorCode")),
        (2, "subgraphs", (_TABLES, "SubGraph")),
        (3, "description", _STRING),
        (4, "buffers", (_TABLES, "Buffer")),
        (5, "metadata_buffer", _INTS),
        (6, "metadata", (_TABLES, "Metadata")),
        (7, "signature_defs", (_TABLES, "SignatureDef")),
        (8, "external_buffer_groups", (_TABLES, "ExternalBufferGroup")),
        (9, "external_buffers", (_TABLES, "ExternalBuffer")),
    ),
    "OperatorCode": ((0, "deprecated_builtin_code", 1), (1, "custom_code", _STRING), (2, "version", 4),
                     (3, "builtin_code", 4)),
    "SubGraph": (
        (0, "tensors", (_TABLES, "Tensor")),
        (1, "inputs", _INTS),
        (2, "outputs", _INTS),
        (3, "operators", (_TABLES, "Operator")),
        (4, "name", _STRING),
        (5, "debug_metadata_index", 4),
    ),
    "Tensor": (
        (0, "shape", _INTS), (1, "type", 1), (2, "buffer", 4), (3, "name", _STRING),
        (4, "quantization", (_TABLE, "QuantizationParameters")),
        (5, "is_variable", 1),
        (6, "sparsity", (_TABLE, "SparsityParameters")),
        (7, "shape_signature", _INTS),
        (8, "has_rank", 1),
        (9, "variant_tensors", (_TABLES, "VariantSubType")),
        (10, "external_buffer", 4),
    ),
    "QuantizationParameters": (
        (0, "min", _INTS), (1, "max", _INTS), (2, "scale", _INTS), (3, "zero_point", _LONGS), (4, "details_type", 1),
        (5, "details", (_UNION, "QuantizationDetails")), (6, "quantized_dimension", 4),
    ),
    "SparsityParameters": ((0, "traversal_order", _INTS), (1, "block_map", _INTS),
                           (2, "dim_metadata", (_TABLES, "DimensionMetadata"))),
    "DimensionMetadata": (
        (0, "format", 1), (1, "dense_size", 4),
        (2, "array_segments_type", 1), (3, "array_segments", (_UNION, "SparseIndexVector")),
        (4, "array_indices_type", 1), (5, "array_indices", (_UNION, "SparseIndexVector")),
    ),
    "VariantSubType": ((0, "shape", _INTS), (1, "type", 1), (2, "has_rank", 1)),
    "Operator": (
        (0, "opcode_index", 4), (1, "inputs", _INTS), (2, "outputs", _INTS),
        (3, "builtin_options_type", 1), (4, "builtin_options", (_UNION, "BuiltinOptions")),
        (5, "custom_options", _BYTES), (6, "custom_options_format", 1), (7, "mutating_variable_inputs", _BYTES),
        (8, "intermediates", _INTS), (9, "large_custom_options_offset", 8), (10, "large_custom_options_size", 8),
        (11, "builtin_options_2_type", 1), (12, "builtin_options_2", (_UNION, "BuiltinOptions2")),
        (13, "debug_metadata_index", 4),
    ),
    "Buffer": ((0, "data", _BYTES), (1, "offset", 8), (2, "size", 8)),
    "Metadata": ((0, "name", _STRING), (1, "buffer", 4)),
    "SignatureDef": ((0, "inputs", (_TABLES, "TensorMap")), (1, "outputs", (_TABLES, "TensorMap")),
                     (2, "signature_key", _STRING), (4, "subgraph_index", 4)),
    "TensorMap": ((0, "name", _STRING), (1, "tensor_index", 4)),
    "ExternalBufferGroup": ((0, "name", _STRING),),
    "ExternalBuffer": ((0, "id", 4), (1, "group", 4), (2, "offset", 8), (3, "length", 8), (4, "packing", _STRING)),
    "CustomQuantization": ((0, "custom", _BYTES),),
    "BlockwiseQuantization": ((0, "scales", 4), (1, "zero_points", 4), (2, "block_size", 4), (3, "block_shape", _INTS)),
    "MultiAxisQuantization": ((0, "scales", 4), (1, "zero_points", 4), (2, "block_size", 4),
                              (3, "quantized_dimensions", _INTS)),
    "Int32Vector": ((0, "values", _INTS),),
    "Uint16Vector": ((0, "values", ("vector", 2)),),
    "Uint8Vector": ((0, "values", _BYTES),),
}  # fmt: skip


def _vectors(item_bytes: int, *numbers: int) -> tuple[_Field, ...]:
    return tuple((number, f"field {number}", ("vector", item_bytes)) for number in numbers)


# Of the operators' options, only vectors and strings are listed: all other fields are scalars of at most 8 bytes.
_UNIONS: dict[str, dict[int, tuple[_Field, ...]]] = {
    "QuantizationDetails": {
        1: _TABLES_OF_MODEL["CustomQuantization"],
        2: _TABLES_OF_MODEL["BlockwiseQuantization"],
        3: _TABLES_OF_MODEL["MultiAxisQuantization"],
    },
    "SparseIndexVector": {
        1: _TABLES_OF_MODEL["Int32Vector"],
        2: _TABLES_OF_MODEL["Uint16Vector"],
        3: _TABLES_OF_MODEL["Uint8Vector"],
    },
    "BuiltinOptions": {
        3: _vectors(4, 1, 2),  # ConcatEmbeddingsOptions
        8: _vectors(1, 5),  # FullyConnectedOptions.quant_spec
        17: _vectors(4, 0),  # ReshapeOptions.new_shape
        30: _vectors(4, 0),  # SqueezeOptions.squeeze_dims
        111: ((0, "container", _STRING), (1, "shared_name", _STRING)),  # VarHandleOptions
        115: _vectors(4, 0),  # BucketizeOptions.boundaries
    },
    "BuiltinOptions2": {
        2: _vectors(8, 0),  # StablehloBroadcastInDimOptions
        3: _vectors(8, 0, 1, 2),  # StablehloSliceOptions
        4: (*_vectors(8, 0, 1, 2, 3, 7, 10, 13), *_vectors(1, 4), *_vectors(4, 16)),  # StablehloConvolutionOptions
        5: ((0, "name", _STRING), (2, "config", _STRING), *_vectors(4, 4), *_vectors(1, 5)),  # StablehloCustomCall
        6: _vectors(8, 0),  # StablehloReduceOptions
        7: _vectors(8, 1, 2, 3),  # StablehloScatterOptions
        9: _vectors(8, 0),  # StablehloDynamicSliceOptions
        10: _vectors(8, 0, 1, 2),  # StablehloPadOptions
        12: (*_vectors(8, 0, 1, 2, 3), *_vectors(4, 4)),  # StablehloDotGeneralOptions
        13: _vectors(8, 0, 1, 2, 3, 4),  # StablehloReduceWindowOptions
        16: _vectors(8, 0, 1, 2, 4),  # StablehloGatherOptions
        17: _vectors(8, 0),  # StablehloTransposeOptions
        21: ((0, "name", _STRING), *_vectors(1, 2)),  # StableHLOCompositeOptions
        23: _vectors(4, 0),  # StablehloCaseOptions
    },
}


class LayoutError(ValueError):
    """A table, a vector or an offset is not within the file; the message names it."""


def check_layout(data: bytes | bytearray | mmap) -> None:
    """Check that every table and vector that can be reached from a model's root is within the file.

    Args:
        data: the content of a .tflite file.

    Raises:
        LayoutError: something is not within the file, or the file has more than 200,000 tables.
    """
    layout = _Layout(data)
    layout.check("Model", _TABLES_OF_MODEL["Model"], layout.target("its root", 0))


class _Layout:
    def __init__(self, data: bytes | bytearray | mmap) -> None:
        self._data, self._size, self._seen = data, len(data), set[tuple[str, int]]()

    def check(self, kind: str, fields: tuple[_Field, ...], position: int) -> None:
        """Check a table and everything that it refers to."""
        if (kind, position) in self._seen:  # writers may store equal tables once
            return
        self._seen.add((kind, position))
        if len(self._seen) > _MOST_TABLES:
            raise LayoutError(f"it has more than {_MOST_TABLES:,} tables")
        vtable = position - self._read("<i", position, kind)
        length = self._read("<H", vtable, kind)
        if length < 4 or vtable + length > self._size:
            raise LayoutError(f"the fields of a table {kind} are not within the file")
        slots = struct.unpack_from(f"<{length // 2 - 2}H", self._data, vtable + 4)
        self._within(f"a table {kind}", position, max(slots, default=0) + 1)
        for number, name, content in fields:
            if number < len(slots) and slots[number]:
                self._check_field(f"{kind}.{name}", content, position + slots[number], (position, slots, number))

    def _check_field(
        self, what: str, content: int | str | tuple[str, str | int], at: int, place: tuple[int, tuple[int, ...], int]
    ) -> None:
        if isinstance(content, int):
            self._within(what, at, content)
            return
        if content == _STRING:
            self._vector(what, at, 1)
            return
        assert isinstance(content, tuple)
        form, inner = content
        if isinstance(inner, int):
            self._vector(what, at, inner)
        elif form == _TABLE:
            self.check(inner, _TABLES_OF_MODEL[inner], self.target(what, at))
        elif form == _TABLES:
            start, length = self._vector(what, at, 4)
            if length > _MOST_TABLES:
                raise LayoutError(f"{what} has more than {_MOST_TABLES:,} entries")
            for entry in range(start, start + 4 * length, 4):
                self.check(inner, _TABLES_OF_MODEL[inner], self.target(what, entry))
        else:
            position, slots, number = place
            kind = self._data[position + slots[number - 1]] if slots[number - 1] else 0
            if kind:  # a union's type is the field before it
                self.check(f"{inner} {kind}", _UNIONS[inner].get(kind, ()), self.target(what, at))

    def target(self, what: str, at: int) -> int:
        """Return the position that the offset at a position leads to, which holds at least an offset to a vtable."""
        position = at + self._read("<I", at, what)
        self._within(what, position, 4)
        return position

    def _vector(self, what: str, at: int, item_bytes: int) -> tuple[int, int]:
        start = self.target(what, at)
        length = self._read("<I", start, what)
        self._within(what, start + 4, item_bytes * length)
        return start + 4, length

    def _within(self, what: str, position: int, length: int) -> None:
        if position < 0 or position + length > self._size:
            raise LayoutError(f"{what} is not within the file")

    def _read(self, form: str, position: int, what: str) -> int:
        self._within(what, position, struct.calcsize(form))
        return int(struct.unpack_from(form, self._data, position)[0])
