"""The message format between processes: JSON and raw bytes per message, over a pair of pipes."""

from __future__ import annotations

import json
import struct
import zlib
from typing import IO, Any

__all__ = ["GREETING", "read_frame", "write_frame"]

GREETING = b"\nedgeq speaks\n"
"""Sent before the first frame over SSH. Whatever the login printed before it is ignored."""

_HEADER = struct.Struct("<II?")  # length of the JSON, length of the payload, whether the payload is compressed


def write_frame(stream: IO[bytes], message: dict[str, Any], payload: bytes = b"", compressed: bool = False) -> None:
    """Write one frame and flush the stream.

    Args:
        stream: a pipe.
        message: JSON data.
        payload: raw bytes that belong to the message.
        compressed: whether to compress the payload.
    """
    head = json.dumps(message).encode()
    body = zlib.compress(payload, 1) if compressed else payload
    stream.write(_HEADER.pack(len(head), len(body), compressed) + head)
    stream.write(body)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one frame.

    Returns:
        The message, and the payload, decompressed.

    Raises:
        EOFError: the stream ends.
    """
    head, length, compressed = _HEADER.unpack(_exactly(stream, _HEADER.size))
    message, body = json.loads(_exactly(stream, head)), _exactly(stream, length)
    return message, zlib.decompress(body) if compressed else body


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
