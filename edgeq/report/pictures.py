"""Photos as thumbnails that travel inside a page."""

from __future__ import annotations

import base64
import io

from edgeq.errors import ImageError
from edgeq.images import decode

__all__ = ["SIDE", "thumbnail"]

SIDE = 256
"""Pixels of a thumbnail's longer side, at most."""

_JPEG_QUALITY = 80


def thumbnail(file: str) -> str | None:
    """An image as the data URI of an upright JPEG, or None where it is gone or cannot be read any more."""
    from PIL import Image  # as everywhere: not before it is used

    try:
        picture = decode(file, enough=_enough)
    except ImageError:
        return None
    picture.thumbnail((SIDE, SIDE), Image.Resampling.LANCZOS)
    picture.info.clear()  # comments and profiles of the file, which Pillow would write again
    content = io.BytesIO()
    picture.save(content, "JPEG", quality=_JPEG_QUALITY)
    return f"data:image/jpeg;base64,{base64.b64encode(content.getvalue()).decode()}"


def _enough(width: int, height: int) -> tuple[int, int]:
    """Twice the thumbnail's size: what is left to resample well."""
    scale = min(1.0, 2 * SIDE / max(width, height))
    return round(scale * width), round(scale * height)
