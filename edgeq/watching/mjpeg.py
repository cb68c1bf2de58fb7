"""Split a stream of bytes into the JPEG images in it (Motion JPEG).

The images may follow each other directly, as rpicam-vid and ffmpeg write them, or be parts of an HTTP response with
headers between them (``multipart/x-mixed-replace``): what is not a JPEG is skipped.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

__all__ = ["MOST_FRAME_BYTES", "split_jpegs"]

MOST_FRAME_BYTES = 1 << 26
"""A longer image is skipped: no camera makes one, and memory must stay bounded."""

_START = b"\xff\xd8\xff"
_HEADER = 2  # bytes of the marker SOI
# JPEG markers (ITU-T T.81, table B.1)
_END_OF_IMAGE, _START_OF_SCAN = 0xD9, 0xDA
_WITHOUT_LENGTH = (0x01, *range(0xD0, 0xD9))  # TEM, RST0 to RST7 and SOI
_IN_SCAN = (0x00, *range(0xD0, 0xD8), 0xFF)  # a stuffed byte, RST0 to RST7, and fill bytes continue a scan


def split_jpegs(read: Callable[[], bytes]) -> Iterator[bytes]:
    """Yield the JPEG images of a stream, each complete.

    Thumbnails inside an image's metadata do not end it, because metadata is skipped by its stated length.

    Args:
        read: returns the next bytes of the stream, at least one; or none at its end.
    """
    buffer, scanner = bytearray(), _Scanner()
    while content := read():
        buffer += content
        while True:
            end = scanner.end_of_image(buffer)
            if end is None:
                break
            if end > 0:
                yield bytes(buffer[:end])
            # After damage, go on behind the image's first bytes: the next image may already be in the buffer.
            del buffer[: end or _HEADER]
            scanner = _Scanner()


class _Scanner:
    """Looks for the end of the image at the start of a buffer, and remembers how far it has looked."""

    def __init__(self) -> None:
        self._position = 0
        self._started = self._in_scan = False

    def end_of_image(self, buffer: bytearray) -> int | None:
        """Return the position after the image; 0 if it is damaged; None if more bytes are needed.

        Bytes before the image are removed from the buffer.
        """
        if not self._started:
            start = buffer.find(_START)
            # The last two bytes may be the beginning of an image.
            del buffer[: start if start >= 0 else max(0, len(buffer) - len(_START) + 1)]
            if start < 0:
                return None
            self._started, self._position = True, _HEADER
        end = self._scan(buffer)
        return 0 if end is None and len(buffer) > MOST_FRAME_BYTES else end

    def _scan(self, buffer: bytearray) -> int | None:
        while True:
            if self._in_scan:
                found = buffer.find(b"\xff", self._position)
                self._position = found if found >= 0 else len(buffer)
            if self._position + 2 > len(buffer):
                return None
            if buffer[self._position] != 0xFF:
                return 0
            marker = buffer[self._position + 1]
            if self._in_scan and marker in _IN_SCAN:
                self._position += 1 if marker == 0xFF else 2
            elif marker == 0xFF:  # fill byte
                self._position += 1
            elif marker == _END_OF_IMAGE:
                return self._position + 2
            elif marker in _WITHOUT_LENGTH:
                self._position += 2
            else:
                if self._position + 4 > len(buffer):
                    return None
                length = int.from_bytes(buffer[self._position + 2 : self._position + 4], "big")
                if length < 2:
                    return 0
                self._position += 2 + length
                self._in_scan = marker == _START_OF_SCAN
