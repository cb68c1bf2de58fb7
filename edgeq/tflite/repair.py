"""Repair old models that current runtimes cannot load because of an invalid field.

In TFLite models from 2020 and before, the ``quantized_dimension`` of a bias may be that of its weights (3), although a
tensor of one dimension has only axis 0. Current runtimes validate the field and do not load such a file
("quantized_dimension must be in range [0, 1)").
"""

from __future__ import annotations

from pathlib import Path

from edgeq.tflite import flatbuffer, schema

__all__ = ["repaired_model"]


def repaired_model(path: str | Path, complaint: str) -> bytes | None:
    """Set the quantized dimension of each one-dimensional tensor to 0.

    Args:
        path: the .tflite file that failed to load.
        complaint: the runtime's error message.

    Returns:
        The repaired file's content, of the same length; None if the message reports another error.
    """
    if "quantized_dimension must be in range" not in complaint:
        return None
    content = bytearray(Path(path).read_bytes())
    for subgraph in flatbuffer.root(content).tables(schema.Model.SUBGRAPHS):
        for tensor in subgraph.tables(schema.Subgraph.TENSORS):
            quantization = tensor.table(schema.Tensor.QUANTIZATION)
            position = quantization and quantization.position_of(schema.Quantization.DIMENSION)
            if position and tensor.length(schema.Tensor.SHAPE) == 1:
                content[position : position + 4] = bytes(4)  # an int32
    return bytes(content)
