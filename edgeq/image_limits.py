"""Open image files without being harmed by those that were made to use much time or memory."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import BinaryIO

from PIL import Image

from edgeq.errors import ImageError
from edgeq.memory import available_bytes

__all__ = ["MOST_PIXELS", "open_image", "require_memory"]

MOST_PIXELS = 178_956_970
"""Largest number of pixels that are decoded: Pillow's own limit, 256 MiB as 24-bit RGB, twice over."""

_MOST_PIXELS_OF_JPEG = 1 << 28  # these can be decoded at reduced scale; phones take up to 200 megapixels
_MOST_SCANNED_PIXELS = 1 << 32  # of all scans of a JPEG; a progressive one has about 10 scans
_START_OF_SCAN = b"\xff\xda"
_BYTES_PER_PIXEL = 4  # Pillow stores colors in 4 bytes
_COEFFICIENT_BYTES_PER_PIXEL = 6  # a progressive JPEG's coefficients are held at full size
_NEGLIGIBLE_BYTES = 1 << 27


def open_image(source: str | Path | bytes | BinaryIO) -> Image.Image:
    """Open an image file, which `Image.load` then decodes.

    Args:
        source: a file's path, its bytes, or an open binary file.

    Raises:
        ImageError: the image is too large, has too many scans, or needs an external program. The message lacks the
            file's name.
        Exception: what Pillow raises for files that it cannot read.
    """
    stream = BytesIO(source) if isinstance(source, bytes) else source
    try:
        image: Image.Image = Image.open(stream)
    except Image.DecompressionBombError:
        image = _open_large_jpeg(stream)
    try:
        _check(image)
    except BaseException:
        image.close()
        raise
    return image


def require_memory(image: Image.Image, copies: int) -> None:
    """Raise an `ImageError` if an image is too large to be decoded.

    Args:
        image: an image that is not decoded yet, after a reduced scale was chosen.
        copies: number of copies of the image that are in memory at the same time.
    """
    width, height = image.size
    if width * height > MOST_PIXELS:
        raise _too_large(width, height)
    needed = _BYTES_PER_PIXEL * copies * width * height
    if "progressive" in image.info:
        width, height = getattr(image, "full_size", image.size)
        needed += _COEFFICIENT_BYTES_PER_PIXEL * width * height
    if needed <= _NEGLIGIBLE_BYTES:
        return
    available = available_bytes()
    if available is not None and needed > available:
        raise ImageError(
            f"needs {needed / 1e6:.0f} MB of memory, and {available / 1e6:.0f} MB are available; save it in a smaller "
            "size"
        )


def _open_large_jpeg(source: str | Path | BinaryIO) -> Image.Image:
    """Open a JPEG that is larger than Pillow's limit, because it can be decoded at reduced scale."""
    from PIL.JpegImagePlugin import JpegImageFile  # imported here: few images are so large

    if not isinstance(source, str | Path):
        source.seek(0)
    try:
        image = JpegImageFile(source)
    except SyntaxError:
        raise ImageError(
            f"has more than {MOST_PIXELS / 1e6:.0f} megapixels, which only JPEG files may have (a decompression bomb?)"
        ) from None
    if image.width * image.height > _MOST_PIXELS_OF_JPEG:
        image.close()
        raise _too_large(*image.size)
    image.full_size = image.size  # type: ignore[attr-defined]
    return image


def _check(image: Image.Image) -> None:
    if image.format == "EPS":
        raise ImageError("is PostScript, a program that draws; save it as PNG or JPEG")
    if image.format not in ("JPEG", "MPO"):
        return
    stream = image.fp  # type: ignore[attr-defined]
    place = stream.tell()
    stream.seek(0)
    scans = stream.read().count(_START_OF_SCAN)
    stream.seek(place)
    if scans * image.width * image.height > _MOST_SCANNED_PIXELS:
        raise ImageError(f"has {scans} scans, which would take very long (a decompression bomb?)")


def _too_large(width: int, height: int) -> ImageError:
    count = f"{width * height / 1e6:.0f} megapixels"
    return ImageError(f"has {count}, which are too many (a decompression bomb?); save it in a smaller size")
