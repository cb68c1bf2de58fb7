"""Read the options of custom operators: a FlexBuffers map of numbers, using only the standard library.

A FlexBuffer is read from its end: the last byte is the root's width in bytes, the one before it the root's type. A map
has its values at its position, their types behind them, and before them its length, and the offset and width of the
vector of its keys. Source: flatbuffers.dev, "FlexBuffer internals".
"""

from __future__ import annotations

import struct

__all__ = ["read_numbers"]

_MAP, _INT, _UINT, _FLOAT, _BOOL = 9, 1, 2, 3, 26
_INTEGERS = {1: "b", 2: "h", 4: "i", 8: "q"}
_FLOATS = {2: "e", 4: "f", 8: "d"}


def read_numbers(data: bytes) -> dict[str, float]:
    """Read a map's numbers by name; values of other types are left out.

    Raises:
        ValueError: the data is no map, or is damaged.
    """
    try:
        return _read(data)
    except (struct.error, IndexError, KeyError, UnicodeDecodeError):
        raise ValueError("no FlexBuffers map") from None


def _read(data: bytes) -> dict[str, float]:
    width, kind = data[-1], data[-2]
    if kind >> 2 != _MAP:
        raise ValueError("no FlexBuffers map")
    root = len(data) - 2 - width
    position, width = root - _unsigned(data, root, width), 1 << (kind & 3)
    length = _unsigned(data, position - width, width)
    keys_at = position - 3 * width
    keys, key_width = keys_at - _unsigned(data, keys_at, width), _unsigned(data, position - 2 * width, width)
    found: dict[str, float] = {}
    for number in range(length):
        at = keys + number * key_width
        start = at - _unsigned(data, at, key_width)
        if start < 0:
            raise ValueError("a key is not within the data")
        name = data[start : data.index(0, start)].decode()
        value, kind = position + number * width, data[position + length * width + number] >> 2
        if kind in (_INT, _BOOL):
            found[name] = _number(data, value, _INTEGERS[width])
        elif kind == _UINT:
            found[name] = _unsigned(data, value, width)
        elif kind == _FLOAT:
            found[name] = _number(data, value, _FLOATS[width])
    return found


def _unsigned(data: bytes, position: int, width: int) -> int:
    return int(_number(data, position, _INTEGERS[width].upper()))


def _number(data: bytes, position: int, form: str) -> float:
    if position < 0:
        raise ValueError("a number is not within the data")
    number: float = struct.unpack_from(f"<{form}", data, position)[0]
    return number
