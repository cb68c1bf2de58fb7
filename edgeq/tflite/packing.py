"""Writing a .tflite flatbuffer from the schema's objects."""

from __future__ import annotations

from typing import Any

__all__ = ["pack_model"]

_BUFFER_ALIGNMENT = 16  # schema.fbs: Buffer.data (force_align: 16)


def pack_model(model: Any, size_bytes: int) -> bytes:
    """The flatbuffer of a whole model.

    Args:
        model: the schema's ``ModelT``.
        size_bytes: a guess at its size, which saves growing.
    """
    import flatbuffers  # not there on a device, where no graph can be read either

    class AlignedBuilder(flatbuffers.Builder):  # type: ignore[misc]
        """Keeps byte vectors aligned: the schema's ``force_align`` is lost on Python's object API."""

        def StartVector(self, elemSize: int, numElems: int, alignment: int) -> Any:  # noqa: N802, N803
            return super().StartVector(elemSize, numElems, _BUFFER_ALIGNMENT if elemSize == 1 else alignment)

    builder = AlignedBuilder(size_bytes + 4096)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())
