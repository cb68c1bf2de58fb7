"""Tell a truncated model from a whole one: tflite-runtime and tensorflow crash on a truncated one.

ai-edge-litert verifies a file itself. For the other runtimes, everything that a model's tables point to must lie
within the file. An interrupted copy is then reported as an error instead of a segmentation fault.
"""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from edgeq.tflite import flatbuffer, schema

__all__ = ["is_whole"]


def is_whole(path: str | Path) -> bool:
    """Tell whether everything that a .tflite file's tables point to is in the file; reads little but the tables."""
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
