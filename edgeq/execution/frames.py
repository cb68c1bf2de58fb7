"""The message format between processes: JSON and raw bytes per message, over a pair of pipes."""

from __future__ import annotations

import json
import struct
import zlib
from typing import IO, Any

__all__ = ["GREETING", "MOST_BYTES", "read_frame", "write_frame"]

GREETING = b"\nedgeq speaks\n"
"""Sent before the first frame over SSH. Whatever the login printed before it is ignored."""

MOST_BYTES = 1 << 30
"""Largest payload, unpacked. Tensors are far smaller; a process that announces more is broken or hostile."""

_MOST_MESSAGE_BYTES = 1 << 26
_BLOCK_BYTES = 1 << 20  # memory grows with what arrives, not with what is announced
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
        ValueError: what arrives is no frame, or larger than the limits.
    """
    head, length, compressed = _HEADER.unpack(_exactly(stream, _HEADER.size))
    if head > _MOST_MESSAGE_BYTES or length > MOST_BYTES:
        raise ValueError(f"a message of {head:,} bytes with {length:,} bytes of data")
    message, body = json.loads(_exactly(stream, head)), _exactly(stream, length)
    if not isinstance(message, dict):
        raise ValueError("a message that is no JSON object")
    return message, _decompressed(body) if compressed else body


def _decompressed(body: bytes) -> bytes:
    unpacker = zlib.decompressobj()
    try:
        content = unpacker.decompress(body, MOST_BYTES)
    except zlib.error as error:
        raise ValueError(f"damaged data ({error})") from None
    if not unpacker.eof:
        raise ValueError(f"data that is cut off, or more than {MOST_BYTES:,} bytes unpacked")
    return content


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(min(count, _BLOCK_BYTES))
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
