"""Write a .tflite flatbuffer from the objects of TFLite's schema."""

from __future__ import annotations

from typing import Any

__all__ = ["pack_model"]

_BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data (force_align: 16)


def pack_model(model: Any, size_bytes: int) -> bytes:
    """Serialize a whole model.

    Args:
        model: the model, an object of the schema's class ``ModelT``.
        size_bytes: an estimate of the result's size; a good estimate avoids reallocations.

    Returns:
        The flatbuffer.
    """
    import flatbuffers  # imported here: devices lack it

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Aligns byte vectors, because Python's object API ignores the schema's ``force_align``."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            return super().StartVector(elemSize, numElems, _BUFFER_ALIGNMENT if elemSize == 1 else alignment)

    builder = AlignedBuilder(size_bytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
