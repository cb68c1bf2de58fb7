"""Reading FlatBuffers with nothing but the standard library, as a device has no ``flatbuffers`` package.

Only what edgeq needs of the format (FlatBuffers internals documentation): a table is a signed offset back to
its vtable, which holds each field's place relative to the table, or 0 where the field is absent. Fields are
named by their number, their position in the schema.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from mmap import mmap

__all__ = ["Table", "root"]


@dataclass(frozen=True)
class Table:
    """A table within a FlatBuffer.

    Attributes:
        data: the whole buffer.
        position: of the table, in bytes from the buffer's start.
    """

    data: bytes | bytearray | memoryview | mmap
    position: int

    def place(self, field: int) -> int | None:
        """Byte position of a field's value, or None where the table has no such field."""
        vtable = self.position - self._read("<i", self.position)
        slot = 4 + 2 * field
        if slot >= self._read("<H", vtable):
            return None
        offset = self._read("<H", vtable + slot)
        return self.position + offset if offset else None

    def scalar(self, field: int, form: str, default: int = 0) -> int:
        """An integer field; `form` is its :mod:`struct` format, for instance ``<i``."""
        place = self.place(field)
        return default if place is None else self._read(form, place)

    def table(self, field: int) -> Table | None:
        """A table field."""
        place = self.place(field)
        return None if place is None else self._target(place)

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

    def length(self, field: int) -> int:
        """Length of a vector field, 0 where it is absent."""
        return self.vector(field)[1]

    def vector(self, field: int) -> tuple[int, int]:
        """Byte position of a vector's first item, and its length; (0, 0) where the field is absent."""
        place = self.place(field)
        if place is None:
            return 0, 0
        start = place + self._read("<I", place)
        return start + 4, self._read("<I", start)

    def _target(self, place: int) -> Table:
        return Table(self.data, place + self._read("<I", place))

    def _read(self, form: str, position: int) -> int:
        return int(struct.unpack_from(form, self.data, position)[0])


def root(data: bytes | bytearray | memoryview | mmap) -> Table:
    """The root table of a buffer.

    Raises:
        struct.error: the buffer ends before its tables do (here and in every method of `Table`).
    """
    return Table(data, int(struct.unpack_from("<I", data)[0]))
