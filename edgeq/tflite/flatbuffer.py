"""Read FlatBuffers with the standard library alone: a device has no ``flatbuffers`` package.

Only what edgeq needs of the format (see the FlatBuffers internals documentation): a table starts with a signed
offset back to its vtable, which holds each field's offset from the table, or 0 where the field is absent. A field
is named by its number, its position in the schema.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap

__all__ = ["Table", "root"]


@dataclass(frozen=True)
class Table:
    """A table within a FlatBuffer.

    Every method raises struct.error where the buffer ends before the table does.

    Attributes:
        data: the whole buffer.
        position: of the table, in bytes from the buffer's start.
    """

    data: bytes | bytearray | memoryview | mmap
    position: int

    def position_of(self, field: int) -> int | None:
        """Byte position of a field's value, or None where the field is absent."""
        vtable = self.position - self._read("<i", self.position)
        slot = 4 + 2 * field
        if slot >= self._read("<H", vtable):
            return None
        offset = self._read("<H", vtable + slot)
        return self.position + offset if offset else None

    def scalar(self, field: int, form: str, default: int = 0) -> int:
        """An integer field.

        Args:
            field: its number.
            form: its :mod:`struct` format, for instance ``<i``.
            default: what the schema says of an absent field.
        """
        position = self.position_of(field)
        return default if position is None else self._read(form, position)

    def table(self, field: int) -> Table | None:
        """A field that is a table, or None where it is absent."""
        position = self.position_of(field)
        return None if position is None else self._target(position)

    def tables(self, field: int) -> list[Table]:
        """A field that is a vector of tables."""
        start, length = self.vector(field)
        return [self._target(start + 4 * i) for i in range(length)]

    def raw(self, field: int) -> bytes:
        """A field that is a vector of bytes, or a string."""
        start, length = self.vector(field)
        return bytes(self.data[start : start + length])

    def floats(self, field: int) -> tuple[float, ...]:
        """A field that is a vector of float32."""
        start, length = self.vector(field)
        return struct.unpack_from(f"<{length}f", self.data, start)

    def integers(self, field: int) -> tuple[int, ...]:
        """A field that is a vector of int32."""
        start, length = self.vector(field)
        return struct.unpack_from(f"<{length}i", self.data, start)

    def length(self, field: int) -> int:
        """Length of a vector field, 0 where it is absent."""
        return self.vector(field)[1]

    def vector(self, field: int) -> tuple[int, int]:
        """Byte position of a vector's first item, and its length; (0, 0) where the field is absent."""
        position = self.position_of(field)
        if position is None:
            return 0, 0
        start = position + self._read("<I", position)
        return start + 4, self._read("<I", start)

    def _target(self, position: int) -> Table:
        return Table(self.data, position + self._read("<I", position))

    def _read(self, form: str, position: int) -> int:
        return int(struct.unpack_from(form, self.data, position)[0])


def root(data: bytes | bytearray | memoryview | mmap) -> Table:
    """The root table of a buffer.

    Raises:
        struct.error: the buffer is shorter than 4 bytes.
    """
    return Table(data, int(struct.unpack_from("<I", data)[0]))
