"""Read FlatBuffers using only the standard library, because devices have no ``flatbuffers`` package.

Supports the part of the format that edgeq needs (see the FlatBuffers internals documentation). A table starts with a
signed offset back to its vtable, which has each field's offset from the table, or 0 if the field is absent. A field is
identified by its number, which is its position in the schema.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap

__all__ = ["Table", "root"]


@dataclass(frozen=True)
class Table:
    """A table within a FlatBuffer.

    Every method raises `struct.error` if the table extends beyond the buffer.

    Attributes:
        data: the whole buffer.
        position: the table's position, in bytes from the buffer's start.
    """

    data: bytes | bytearray | memoryview | mmap
    position: int

    def position_of(self, field: int) -> int | None:
        """Return the byte position of a field's value, or None if the field is absent."""
        vtable = self.position - self._read("<i", self.position)
        slot = 4 + 2 * field
        if slot >= self._read("<H", vtable):
            return None
        offset = self._read("<H", vtable + slot)
        return self.position + offset if offset else None

    def scalar(self, field: int, form: str, default: int = 0) -> int:
        """Read an integer field.

        Args:
            field: the field's number.
            form: the field's :mod:`struct` format, for example ``<i``.
            default: the schema's default for an absent field.
        """
        position = self.position_of(field)
        return default if position is None else self._read(form, position)

    def table(self, field: int) -> Table | None:
        """Read a field that is a table; None if it is absent."""
        position = self.position_of(field)
        return None if position is None else self._target(position)

    def tables(self, field: int) -> list[Table]:
        """Read a field that is a vector of tables."""
        start, length = self.vector(field)
        return [self._target(start + 4 * i) for i in range(length)]

    def raw(self, field: int) -> bytes:
        """Read a field that is a string or a vector of bytes."""
        start, length = self.vector(field)
        return bytes(self.data[start : start + length])

    def floats(self, field: int) -> tuple[float, ...]:
        """Read a field that is a vector of float32."""
        start, length = self.vector(field)
        return struct.unpack_from(f"<{length}f", self.data, start)

    def integers(self, field: int) -> tuple[int, ...]:
        """Read a field that is a vector of int32."""
        start, length = self.vector(field)
        return struct.unpack_from(f"<{length}i", self.data, start)

    def length(self, field: int) -> int:
        """Return the length of a vector field; 0 if it is absent."""
        return self.vector(field)[1]

    def vector(self, field: int) -> tuple[int, int]:
        """Return the byte position of a vector's first item and the vector's length; (0, 0) if the field is absent."""
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
    """Return the root table of a buffer.

    Raises:
        struct.error: the buffer is shorter than 4 bytes.
    """
    return Table(data, int(struct.unpack_from("<I", data)[0]))
