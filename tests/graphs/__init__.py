"""Graphs in files of other kinds: what tests of several rooms share."""

from __future__ import annotations

import numpy as np

from edgeq.tflite.graph import Tensor, load_schema
from edgeq.tflite.packing import pack_model


def assert_same_data(one: Tensor, other: Tensor) -> None:
    """Hold that two tensors have the same constant, or none."""
    assert (one.data is None) == (other.data is None)
    if one.data is not None and other.data is not None:
        np.testing.assert_array_equal(one.data, other.data)


def with_weights_outside(content: bytes) -> bytes:
    """The same model with all constants behind the flatbuffer, as files of more than 2 GB have them."""
    schema = load_schema()
    model = schema.ModelT.InitFromPackedBuf(content, 0)
    constants = [buffer for buffer in model.buffers if buffer.data is not None and len(buffer.data)]
    parts = [np.asarray(buffer.data, np.uint8).tobytes() for buffer in constants]
    for buffer in constants:
        buffer.data, buffer.offset, buffer.size = None, 2, 2  # so that the fields are there to be filled in
    start = -(-len(pack_model(model, 0)) // 16) * 16
    place = start
    for buffer, part in zip(constants, parts, strict=True):
        buffer.offset, buffer.size = place, len(part)
        place += -(-len(part) // 16) * 16
    padded = [part.ljust(-(-len(part) // 16) * 16, b"\0") for part in parts]
    return pack_model(model, 0).ljust(start, b"\0") + b"".join(padded)
