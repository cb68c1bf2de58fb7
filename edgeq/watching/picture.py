"""A frame as a JPEG, to show or to keep."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

from edgeq.errors import InputError, one_line
from edgeq.images import Source as Image
from edgeq.images import decode

__all__ = ["MOST_PICTURES_PER_S", "jpeg_bytes"]

MOST_PICTURES_PER_S = 8
"""Of the page; more would cost a board's processor time, and look the same."""

_JPEG_START = b"\xff\xd8"
_QUALITY = 90


def jpeg_bytes(image: Image) -> bytes:
    """Return a frame as the bytes of a JPEG file. JPEGs stay as they are; everything else is encoded.

    Args:
        image: a frame as a source gives it: bytes, a photo's path, or a uint8 array, (height, width, 3) RGB.

    Raises:
        InputError: the file cannot be read.
        ImageError: the image cannot be decoded.
    """
    if isinstance(image, str | Path):
        file = Path(image)
        try:
            image = file.read_bytes()
        except OSError as error:
            raise InputError(f"{file}: cannot be read ({one_line(error.strerror or error)})") from None
    if isinstance(image, bytes) and image.startswith(_JPEG_START):
        return image
    encoded = BytesIO()
    decode(image).save(encoded, "JPEG", quality=_QUALITY)
    return encoded.getvalue()
