"""Check how a sparse constant is stored: a level per dimension, each dense or with segments and indices.

The format is that of TACO; see ``SparsityParameters`` in TFLite's schema.fbs. Uses only the standard library.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence

from edgeq.tflite import flatbuffer, schema

__all__ = ["constant_items"]

_DENSE, _SPARSE = 0, 1
_VECTORS = {1: "i", 2: "H", 3: "B"}  # the union SparseIndexVector


def constant_items(table: flatbuffer.Table, shape: Sequence[int]) -> int:
    """Return how many values a sparse constant stores.

    Args:
        table: the tensor's ``SparsityParameters``.
        shape: the tensor's shape.

    Raises:
        ValueError: the levels do not describe a tensor of that shape.
    """
    order, blocks = table.integers(schema.Sparsity.TRAVERSAL_ORDER), table.integers(schema.Sparsity.BLOCK_MAP)
    levels = table.tables(schema.Sparsity.DIMENSIONS)
    rank = len(shape)
    if sorted(order) != list(range(rank + len(blocks))) or len(levels) != len(order):
        raise ValueError("its order of traversal is not one of its dimensions")
    if any(not 0 <= block < rank for block in blocks):
        raise ValueError("a block is of no dimension")
    items = 1
    for level in levels:
        form = level.scalar(schema.SparseDimension.FORMAT, "<b")
        if form == _DENSE:
            dense = level.scalar(schema.SparseDimension.DENSE_SIZE, "<i")
            if dense < 1:
                raise ValueError(f"a dimension has the size {dense}")
            items *= dense
        elif form == _SPARSE:
            items = _sparse_items(level, items, max(shape, default=0))
        else:
            raise ValueError(f"a dimension has the format {form}")
        if items > 2**31:
            raise ValueError("it has too many values")
    return items


def _sparse_items(level: flatbuffer.Table, items: int, largest: int) -> int:
    segments = _numbers(level, schema.SparseDimension.SEGMENTS_TYPE, schema.SparseDimension.SEGMENTS)
    indices = _numbers(level, schema.SparseDimension.INDICES_TYPE, schema.SparseDimension.INDICES)
    if len(segments) != items + 1 or segments[0] != 0 or list(segments) != sorted(segments):
        raise ValueError("the segments of a dimension do not follow each other")
    if segments[-1] != len(indices) or any(not 0 <= index < largest for index in indices):
        raise ValueError("the indices of a dimension are out of range")
    return len(indices)


def _numbers(level: flatbuffer.Table, type_field: int, field: int) -> tuple[int, ...]:
    form, vector = _VECTORS.get(level.scalar(type_field, "<B")), level.table(field)
    if form is None or vector is None:
        raise ValueError("a dimension lacks its segments or indices")
    start, length = vector.vector(0)
    return struct.unpack_from(f"<{length}{form}", vector.data, start)
