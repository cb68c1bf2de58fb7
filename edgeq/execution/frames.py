"""What desk and device say to each other: a JSON object and raw bytes at a time, over a pair of pipes."""

from __future__ import annotations

import json
import struct
from typing import IO, Any

__all__ = ["GREETING", "read_frame", "write_frame"]

GREETING = b"\nedgeq speaks\n"
"""Comes before the first frame, as a login may print whatever it likes before."""

_LENGTHS = struct.Struct("<II")  # of the JSON and of the bytes behind it


def write_frame(stream: IO[bytes], message: dict[str, Any], payload: bytes = b"") -> None:
    """Write one frame and flush."""
    head = json.dumps(message).encode()
    stream.write(_LENGTHS.pack(len(head), len(payload)) + head)
    stream.write(payload)
    stream.flush()


def read_frame(stream: IO[bytes]) -> tuple[dict[str, Any], bytes]:
    """Read one frame.

    Raises:
        EOFError: the stream ends.
    """
    head, payload = _LENGTHS.unpack(_exactly(stream, _LENGTHS.size))
    return json.loads(_exactly(stream, head)), _exactly(stream, payload)


def _exactly(stream: IO[bytes], count: int) -> bytes:
    parts = []
    while count:
        part = stream.read(count)
        if not part:
            raise EOFError
        parts.append(part)
        count -= len(part)
    return b"".join(parts)
