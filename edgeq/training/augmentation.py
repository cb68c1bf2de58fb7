"""Random crops, flips, rotations and colours, in one resampling."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgeq.preprocessing import Preprocessing

__all__ = ["Augmentation"]

_LARGEST_ASPECT_CHANGE = 4 / 3


@dataclass(frozen=True)
class Augmentation:
    """How far a training picture may be changed.

    Attributes:
        smallest_crop: a crop keeps this share of the area at least, in (0, 1].
        reach: by this share of the picture's side a crop may lie outside of it, where the picture is mirrored.
        rotation: at most, either way, in degrees.
        colour: brightness, contrast and saturation change by at most this share.
        flips: whether half of the pictures are mirrored.
    """

    smallest_crop: float = 0.6
    reach: float = 0.0
    rotation: float = 10.0
    colour: float = 0.2
    flips: bool = True

    def apply(self, images: Any, preprocessing: Preprocessing, seed: Any) -> Any:
        """Change each picture at random, and normalize it.

        Args:
            images: (N, H, W, C) uint8.
            preprocessing: its size and its normalization are those of the result; its crop does not count.
            seed: (2,) int32; the same seed gives the same result.

        Returns:
            (N, height, width, C) float32, in the range of `preprocessing`.
        """
        import tensorflow as tf

        count, rows, columns = (tf.cast(n, tf.float32) for n in tf.unstack(tf.shape(images)[:3]))
        seeds = iter(tf.unstack(tf.random.split(seed, 9)))

        def uniform(low: Any, high: Any) -> Any:
            return low + (high - low) * tf.random.stateless_uniform([tf.cast(count, tf.int32)], next(seeds))

        area = uniform(self.smallest_crop, 1.0)
        aspect = tf.exp(uniform(-1.0, 1.0) * math.log(_LARGEST_ASPECT_CHANGE))
        height = rows * tf.minimum(tf.sqrt(area / aspect), 1 + self.reach)
        width = columns * tf.minimum(tf.sqrt(area * aspect), 1 + self.reach)
        top = uniform(-self.reach * rows, (1 + self.reach) * rows - height)
        left = uniform(-self.reach * columns, (1 + self.reach) * columns - width)
        mirrored = uniform(0.0, 1.0) < (0.5 if self.flips else 0.0)
        angle = uniform(-1.0, 1.0) * math.radians(self.rotation)
        boxes = (top, left, height, width, tf.where(mirrored, -1.0, 1.0), angle)
        x = _resample(images, boxes, preprocessing)

        def per_image(low: float, high: float) -> Any:
            return uniform(low, high)[:, None, None, None]

        grey = tf.reduce_mean(x, axis=3, keepdims=True)
        x = grey + (x - grey) * per_image(1 - self.colour, 1 + self.colour)
        contrast, brightness = per_image(1 - self.colour, 1 + self.colour), per_image(-self.colour / 2, self.colour / 2)
        x = tf.clip_by_value((x - 127.5) * contrast + 127.5 * (1 + brightness), 0, 255)
        return (x - tf.constant(preprocessing.mean)) / tf.constant(preprocessing.std)


def _resample(images: Any, boxes: tuple[Any, ...], preprocessing: Preprocessing) -> Any:
    """Cut boxes (the arguments of `_transforms`) out of pictures, bilinear; outside, the pictures are mirrored."""
    import tensorflow as tf

    return tf.raw_ops.ImageProjectiveTransformV3(
        images=tf.cast(images, tf.float32),
        transforms=_transforms(boxes, preprocessing.height, preprocessing.width),
        output_shape=(preprocessing.height, preprocessing.width),
        fill_value=0.0,
        interpolation="BILINEAR",
        fill_mode="REFLECT",
    )


def _transforms(boxes: tuple[Any, ...], rows: int, columns: int) -> Any:
    """Where each pixel of the result lies in the picture: (N, 8) float32, as ImageProjectiveTransformV3 takes it.

    Each of `boxes`, (N,) float32 all of them, is a part: top, left, height and width in the picture's pixels, -1
    for a mirrored box or else 1, and an angle in radians. The result's pixel (column + 1/2, row + 1/2), less its
    centre, is scaled to the box, mirrored, rotated, and put at the box's centre.
    """
    import tensorflow as tf

    top, left, height, width, sign, angle = boxes
    step_x, step_y = sign * width / columns, height / rows
    cosine, sine = tf.cos(angle), tf.sin(angle)
    a0, a1 = cosine * step_x, -sine * step_y
    b0, b1 = sine * step_x, cosine * step_y
    middle_x, middle_y = (columns - 1) / 2, (rows - 1) / 2  # in pixels counted from 0
    a2 = left + width / 2 - 0.5 - a0 * middle_x - a1 * middle_y
    b2 = top + height / 2 - 0.5 - b0 * middle_x - b1 * middle_y
    nothing = tf.zeros_like(a0)
    return tf.stack([a0, a1, a2, b0, b1, b2, nothing, nothing], axis=1)
