"""Detect truncated .tflite files, on which tflite-runtime and tensorflow crash.

ai-edge-litert verifies files itself. For the other runtimes, this module checks that everything that a file's tables
point to is within the file. An interrupted copy then causes an error message instead of a segmentation fault.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from edgeq.tflite import flatbuffer, schema

__all__ = ["is_whole"]


def is_whole(path: str | Path) -> bool:
    """Return whether everything that a .tflite file's tables point to is within the file.

    Reads the tables, but not the weights, so it is fast.
    """
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _tables_fit(content)
        except (struct.error, IndexError):
            return False


def _tables_fit(content: mmap.mmap) -> bool:
    size = len(content)
    model = flatbuffer.root(content)

    def fits(table: flatbuffer.Table, field: int, item_bytes: int) -> bool:
        start, length = table.vector(field)
        return start + item_bytes * length <= size

    subgraphs = model.tables(schema.Model.SUBGRAPHS)
    for subgraph in subgraphs:
        for tensor in subgraph.tables(schema.Subgraph.TENSORS):
            quantization = tensor.table(schema.Tensor.QUANTIZATION)
            if not (fits(tensor, schema.Tensor.SHAPE, 4) and fits(tensor, schema.Tensor.NAME, 1)):
                return False
            if quantization and not (
                fits(quantization, schema.Quantization.SCALE, 4)
                and fits(quantization, schema.Quantization.ZERO_POINT, 8)
            ):
                return False
        for operator in subgraph.tables(schema.Subgraph.OPERATORS):
            operator.table(schema.Operator.OPTIONS)
            if not (fits(operator, schema.Operator.INPUTS, 4) and fits(operator, schema.Operator.OUTPUTS, 4)):
                return False
        if not (fits(subgraph, schema.Subgraph.INPUTS, 4) and fits(subgraph, schema.Subgraph.OUTPUTS, 4)):
            return False
    for buffer in model.tables(schema.Model.BUFFERS):
        outside = buffer.scalar(schema.Buffer.OFFSET, "<Q") + buffer.scalar(schema.Buffer.SIZE, "<Q")
        if not fits(buffer, schema.Buffer.DATA, 1) or outside > size:
            return False
    return bool(subgraphs) and fits(model, schema.Model.OPERATOR_CODES, 4)
