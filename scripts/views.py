"""Augmented views of CIFAR-10's pictures: chosen at random, rendered at any size.

A view is a box of a picture, possibly mirrored, with changed colours and possibly with a second picture mixed in. The
random choices do not depend on the size, so a teacher and a small network can use the same view at different sizes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Augmentation", "draw_views", "mixed_shares", "render", "whole_pictures"]

LUMA = np.array([0.299, 0.587, 0.114], np.float32)  # ITU-R BT.601
Floats = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Augmentation:
    """The limits of random augmentation.

    Attributes:
        smallest_area: smallest area of a box, as a fraction of the picture's area, in (0, 1].
        largest_area: largest area of a box. If it is above 1, boxes extend beyond the picture, which is mirrored there.
        aspect: largest ratio of a box's sides.
        reach: how far a box may extend beyond the picture, as a fraction of its side.
        colour: largest relative change of contrast and saturation; brightness changes by at most half of it.
        mixed: fraction of the views that have a second picture mixed in (mixup, arXiv 1710.09412).
        flipped: fraction of the views that are mirrored left to right.
    """

    smallest_area: float = 0.6
    largest_area: float = 1.1
    aspect: float = 4 / 3
    reach: float = 0.125
    colour: float = 0.3
    mixed: float = 0.5
    flipped: float = 0.5


def draw_views(
    pixels: npt.NDArray[np.uint8], side: int, augmentation: Augmentation, rng: np.random.Generator
) -> dict[str, Any]:
    """Choose one random view of each picture.

    Args:
        pixels: the pictures, (N, H, W, 3) uint8 RGB.
        side: side of the views in pixels; does not affect the random choices.
        augmentation: the limits of augmentation.
        rng: source of random numbers.

    Returns:
        The arguments of `render`: ``pixels``; ``rows`` and ``columns``, (N, side) float32, the positions in the picture
        to sample at; ``colour``, (N, 3, 4) float32, an affine map of RGB values; ``second``, (N,) float32, the share of
        the previous picture in the batch, which is mixed in.
    """
    count, height, width = pixels.shape[:3]

    def uniform(low: float, high: float) -> Floats:
        return rng.uniform(low, high, count).astype(np.float32)

    area = uniform(augmentation.smallest_area, augmentation.largest_area)
    aspect = np.exp(uniform(-1, 1) * math.log(augmentation.aspect) / 2)
    limit = 1 + 2 * augmentation.reach
    tall, wide = np.minimum(np.sqrt(area) / aspect, limit), np.minimum(np.sqrt(area) * aspect, limit)
    top = -augmentation.reach + uniform(0, 1) * (limit - tall)
    left = -augmentation.reach + uniform(0, 1) * (limit - wide)
    mirrored = uniform(0, 1) < augmentation.flipped
    left, wide = np.where(mirrored, left + wide, left), np.where(mirrored, -wide, wide)

    second = np.where(uniform(0, 1) < augmentation.mixed, uniform(0, 0.5), 0).astype(np.float32)
    return {
        "pixels": pixels,
        "rows": _positions(top, tall, side, height),
        "columns": _positions(left, wide, side, width),
        "colour": _draw_colour(uniform, augmentation.colour),
        "second": second,
    }


def mixed_shares(labels: npt.NDArray[np.int64], classes: int, views: dict[str, Any]) -> Floats:
    """Return the share of each class in each view: (N, classes) float32."""
    shares, second = np.eye(classes, dtype=np.float32)[labels], views["second"][:, None]
    mixed: Floats = (1 - second) * shares + second * np.roll(shares, 1, axis=0)
    return mixed


def whole_pictures(pixels: npt.NDArray[np.uint8], side: int) -> dict[str, Any]:
    """Return views without augmentation, that is, the whole pictures; arguments and result as for `draw_views`."""
    return draw_views(pixels, side, Augmentation(1, 1, 1, 0, 0, 0, flipped=0), np.random.default_rng(0))


def _positions(start: Floats, length: Floats, side: int, size: int) -> Floats:
    """Compute the positions at which the pixels of a view are sampled along one axis.

    Args:
        start: edges of the boxes, (N,), as fractions of the picture's side.
        length: sides of the boxes, (N,), as fractions of the picture's side; negative for a mirrored box.
        side: number of pixels of the view.
        size: number of pixels of the picture.

    Returns:
        (N, side) float32 positions in [0, size - 1]; positions outside the picture are mirrored at its edge.
    """
    steps = (np.arange(side, dtype=np.float32) + 0.5) / side
    position = np.abs(size * (start[:, None] + length[:, None] * steps))
    position = size - np.abs(size - position)
    return np.clip(position - 0.5, 0, size - 1).astype(np.float32)


def _draw_colour(uniform: Any, reach: float) -> Floats:
    """Draw random saturation, contrast and brightness, as one affine map of RGB values 0 to 255: (N, 3, 4) float32."""
    saturation, contrast = uniform(1 - reach, 1 + reach)[:, None, None], uniform(1 - reach, 1 + reach)[:, None, None]
    brightness = uniform(-reach / 2, reach / 2)[:, None, None]
    grey = np.broadcast_to(LUMA, (3, 3))
    matrix = contrast * (grey + saturation * (np.eye(3, dtype=np.float32) - grey))
    offset = np.broadcast_to(127.5 * (1 - contrast + brightness), (len(matrix), 3, 1))
    return np.concatenate([matrix, offset], axis=2).astype(np.float32)


def render(views: dict[str, Any]) -> Floats:
    """Render views. Their positions determine the size.

    Args:
        views: the views, as `draw_views` returns them.

    Returns:
        (N, side, side, 3) float32 in [-1, 1].
    """
    x, second = views["pixels"].astype(np.float32), views["second"][:, None, None, None]
    colour = views["colour"][:, None]
    x = (1 - second) * x + second * np.roll(x, 1, axis=0)
    x = x @ colour[..., :3].swapaxes(2, 3) + colour[:, :, None, :, 3]
    x = np.clip(x, 0, 255) / np.float32(127.5) - 1
    # Bilinear sampling is separable, so it is a product with one small matrix per picture and axis.
    rows = _bilinear(views["rows"], x.shape[1])[:, None]  # (N, 1, side, H)
    columns = _bilinear(views["columns"], x.shape[2])[:, None]
    planes: Floats = rows @ x.transpose(0, 3, 1, 2) @ columns.swapaxes(2, 3)
    return np.ascontiguousarray(planes.transpose(0, 2, 3, 1))


def _bilinear(positions: Floats, size: int) -> Floats:
    """Return the bilinear weights of the `size` pixels of a line at (N, side) positions: (N, side, size)."""
    weights: Floats = np.maximum(1 - np.abs(positions[:, :, None] - np.arange(size, dtype=np.float32)), 0)
    return weights
