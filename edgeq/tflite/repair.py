"""Old models that runtimes refuse over a field that means nothing.

TFLite models of 2020 and before may carry biases, tensors of one dimension, whose ``quantized_dimension`` is
that of their weights (3). All current runtimes validate the field and refuse to load such a file
("quantized_dimension must be in range [0, 1)"). A tensor of one dimension has only axis 0.
"""

from __future__ import annotations

from pathlib import Path

from edgeq.tflite import flatbuffer, schema

__all__ = ["repaired_model"]


def repaired_model(path: str | Path, complaint: str) -> bytes | None:
    """The model with each one-dimensional tensor quantized along axis 0, or None if that is not the matter.

    Args:
        path: the .tflite file that was refused.
        complaint: what the runtime said.
    """
    if "quantized_dimension must be in range" not in complaint:
        return None
    content = bytearray(Path(path).read_bytes())
    for subgraph in flatbuffer.root(content).tables(schema.MODEL_SUBGRAPHS):
        for tensor in subgraph.tables(schema.SUBGRAPH_TENSORS):
            quantization = tensor.table(schema.TENSOR_QUANTIZATION)
            place = quantization and quantization.place(schema.QUANTIZATION_DIMENSION)
            if place and tensor.length(schema.TENSOR_SHAPE) == 1:
                content[place : place + 4] = bytes(4)  # an int32
    return bytes(content)
