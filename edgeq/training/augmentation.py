"""Augment training photos with random crops, flips, rotations (all in one resampling) and colours."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgeq.preprocessing import Preprocessing

__all__ = ["Augmentation"]

_LARGEST_ASPECT_CHANGE = 4 / 3


@dataclass(frozen=True)
class Augmentation:
    """The limits of random augmentation.

    Attributes:
        smallest_crop: smallest area of a crop, as a fraction of the photo's area; in (0, 1].
        reach: how far a crop may extend beyond the photo, as a fraction of its side. Outside, the photo is mirrored.
        rotation: largest rotation in either direction, in degrees.
        colour: largest relative change of contrast and saturation; brightness changes by at most half of it.
        flips: whether to mirror half of the photos.
    """

    smallest_crop: float = 0.6
    reach: float = 0.0
    rotation: float = 10.0
    colour: float = 0.2
    flips: bool = True

    def apply(self, images: Any, preprocessing: Preprocessing, seed: Any) -> Any:
        """Augment each photo at random, and normalize it.

        Args:
            images: the photos, (N, H, W, C) uint8.
            preprocessing: determines the size and the normalization of the result; its crop is ignored.
            seed: (2,) int32; the same seed gives the same result.

        Returns:
            (N, height, width, C) float32, normalized.
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
    """Crop boxes (see `_transforms`) from images and resize them, bilinear; beyond the edges, images are mirrored."""
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
    """Return the transforms from pixels of the result to positions in the image, for ImageProjectiveTransformV3.

    A pixel's position relative to the result's centre is scaled to the box, mirrored and rotated. Then the box's centre
    is added. Pixel centres are at half-integer positions.

    Args:
        boxes: top, left, height and width of the box in the image's pixels, -1 for a mirrored box or else 1, and the
            angle in radians; (N,) float32 each.
        rows: height of the result.
        columns: width of the result.

    Returns:
        (N, 8) float32.
    """
    import tensorflow as tf

    top, left, height, width, sign, angle = boxes
    step_x, step_y = sign * width / columns, height / rows
    cosine, sine = tf.cos(angle), tf.sin(angle)
    a0, a1 = cosine * step_x, -sine * step_y
    b0, b1 = sine * step_x, cosine * step_y
    middle_x, middle_y = (columns - 1) / 2, (rows - 1) / 2  # the result's centre, in pixel indices from 0
    a2 = left + width / 2 - 0.5 - a0 * middle_x - a1 * middle_y
    b2 = top + height / 2 - 0.5 - b0 * middle_x - b1 * middle_y
    nothing = tf.zeros_like(a0)
    return tf.stack([a0, a1, a2, b0, b1, b2, nothing, nothing], axis=1)
