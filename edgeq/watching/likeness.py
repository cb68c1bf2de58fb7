"""Recognize photos that show almost the same, by a hash of their brightness gradients."""

from __future__ import annotations

from edgeq.images import Source as Image
from edgeq.images import decode

__all__ = ["MOST_ALIKE_BITS", "difference_hash", "distance"]

MOST_ALIKE_BITS = 5
"""Two photos whose hashes differ in at most this many of the 64 bits count as nearly the same."""

_SIDE = 8


def difference_hash(image: Image) -> int:
    """Return the 64-bit difference hash (dHash) of an image.

    The image is reduced to 9x8 grey pixels. Each bit says whether a pixel is brighter than its right neighbour. Changes
    of brightness, contrast, size and compression leave most bits as they are.

    Source: N. Krawetz, "Kind of Like That", The Hacker Factor Blog, 21 January 2013.

    Args:
        image: a frame as a source gives it, see `edgeq.images.Source`.

    Raises:
        ImageError: the image cannot be decoded.
    """
    import numpy as np
    from PIL import Image as Pillow

    # A JPEG is decoded at a reduced scale, which takes a fraction of the time.
    reduced = decode(image, "L", lambda width, height: (4 * _SIDE, 4 * _SIDE))
    pixels = np.asarray(reduced.resize((_SIDE + 1, _SIDE), Pillow.Resampling.BOX))
    bits = pixels[:, :-1] > pixels[:, 1:]
    return int.from_bytes(np.packbits(bits).tobytes(), "big")


def distance(one: int, other: int) -> int:
    """Return the number of bits in which two hashes differ (the Hamming distance)."""
    return (one ^ other).bit_count()
