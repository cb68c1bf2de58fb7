"""Thumbnails of photos, embedded in a page."""

from __future__ import annotations

import base64
import io

from edgeq.comparison.tars import read_from_tar
from edgeq.errors import ImageError
from edgeq.images import decode

__all__ = ["SIDE", "thumbnail"]

SIDE = 256
"""Largest side of a thumbnail, in pixels."""

_JPEG_QUALITY = 80


def thumbnail(file: str) -> str | None:
    """Return an image as the data URI of an upright JPEG, or None if it is missing or unreadable.

    Args:
        file: the path of an image, or of a tar file, a slash and the name within. Nothing is fetched from a URL.
    """
    from PIL import Image  # imported late, to start fast

    try:
        content = read_from_tar(file)
        picture = decode(file if content is None else io.BytesIO(content), enough=_enough)
    except ImageError:
        return None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.info.clear()  # comments and profiles of the file, which Pillow would write again
    encoded = io.BytesIO()
    picture.save(encoded, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(encoded.getvalue()).decode()}"


def _enough(width: int, height: int) -> tuple[int, int]:
    """Return twice the thumbnail's size, which is enough for a good resampling."""
    scale = min(1.0, 2 * SIDE / max(width, height))
    return round(scale * width), round(scale * height)
