"""Preprocessing of images, defined once for calibration, inference and comparison.

1. Decode the image and rotate it upright (:mod:`edgeq.images`).
2. Crop the centre: the largest box with the input's aspect ratio, with its sides multiplied by `crop`.
3. Resize that box to the input's size in one step, bilinear with antialiasing.
4. Normalize the pixel values: ``(pixel - mean) / std``.

Steps 2 and 3 correspond to the usual "resize the shorter side to 256, centre crop to 224", without the intermediate
image.

NumPy is imported inside functions, because it takes a third of the start-up time: the first image can be decoded while
NumPy is being loaded.
"""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from edgeq import images
from edgeq.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

__all__ = [
    "NORMALIZATIONS",
    "Preprocessing",
    "apply_table",
    "default_crop",
    "normalization_of_range",
    "parse_normalization",
]

NORMALIZATIONS: dict[str, tuple[tuple[float, ...], tuple[float, ...]]] = {
    "-1..1": ((127.5,), (127.5,)),
    "0..1": ((0.0,), (255.0,)),
    "0..255": ((0.0,), (1.0,)),
    "imagenet": ((123.675, 116.28, 103.53), (58.395, 57.12, 57.375)),
}
"""Mean and standard deviation of each named normalization, in pixel values.

The first three are named after the range of the normalized values. ``imagenet`` has torchvision's values."""

_REDUCED_DECODE_FACTOR = 2
"""A JPEG is decoded at reduced scale if its crop is then still at least this many times the input's size."""


def default_crop(height: int, width: int) -> float:
    """Return the default centre crop: 0.875, or 1.0 if a side of the input is below 128 pixels.

    0.875 is usual in ImageNet evaluations. Networks for small inputs are trained and evaluated on whole images.
    """
    return 0.875 if min(height, width) >= 128 else 1.0


@dataclass(frozen=True)
class Preprocessing:
    """The settings that turn an image into a network's input.

    Attributes:
        height: the input's height in pixels.
        width: the input's width in pixels.
        mean: what is subtracted from the pixel values (0 to 255); one entry, or one per channel.
        std: what the difference is divided by; one entry, or one per channel.
        channels: channel order, ``RGB``, ``BGR`` or ``L`` (one grey channel).
        crop: side of the centre crop, as a fraction of the largest box that fits into the image; in (0, 1].
    """

    height: int
    width: int
    mean: tuple[float, ...] = (127.5,)
    std: tuple[float, ...] = (127.5,)
    channels: str = "RGB"
    crop: float = 0.875

    def __post_init__(self) -> None:
        if self.height < 1 or self.width < 1:
            raise InputError(f"input size {self.width}x{self.height}: both must be positive")
        if self.channels not in ("RGB", "BGR", "L"):
            raise InputError(f"channels {self.channels!r}: must be RGB, BGR or L")
        if not 0 < self.crop <= 1:
            raise InputError(f"crop {self.crop}: must be above 0 and at most 1")
        if any(len(v) not in (1, len(self.channels)) for v in (self.mean, self.std)):
            raise InputError(f"mean {self.mean} and std {self.std} do not fit the channels {self.channels}")
        if not all(map(math.isfinite, self.mean + self.std)) or min(self.std) <= 0:
            raise InputError(f"mean {self.mean} and std {self.std}: must be finite, std positive")

    @property
    def geometry(self) -> tuple[object, ...]:
        """The settings that `pixels` depends on; two objects with the same geometry produce the same pixels."""
        return self.height, self.width, self.channels, self.crop

    @property
    def real_range(self) -> tuple[float, float]:
        """Smallest and largest normalized value of any pixel value."""
        table = self.normalized_values()
        return float(table.min()), float(table.max())

    def pixels(self, source: images.Source) -> npt.NDArray[np.uint8]:
        """Decode, crop and resize one image.

        Returns:
            (height, width, len(channels)) uint8.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return self.resample(self.decode(source))

    def decode(self, source: images.Source) -> Image.Image:
        """Decode an image and rotate it upright: the first step of :meth:`pixels`.

        A large JPEG is decoded at reduced scale.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return images.decode(source, "L" if self.channels == "L" else "RGB", self._enough)

    def resample(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Crop and resize an image from :meth:`decode`: the other steps of :meth:`pixels`.

        Returns:
            (height, width, len(channels)) uint8.
        """
        import numpy as np

        box = self.crop_box(*image.size)
        size = (self.width, self.height)
        if image.size != size or box != (0.0, 0.0, *image.size):
            image = image.resize(size, Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(image, np.uint8).reshape(self.height, self.width, len(self.channels))
        return pixels[:, :, ::-1] if self.channels == "BGR" else pixels

    def crop_box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return the centre crop of an image of that size: (left, top, right, bottom) in pixels."""
        scale = min(width / self.width, height / self.height) * self.crop
        # Rounding errors may put an edge slightly outside the image.
        left, top = max(0.0, (width - self.width * scale) / 2), max(0.0, (height - self.height * scale) / 2)
        return left, top, min(left + self.width * scale, width), min(top + self.height * scale, height)

    def normalized_values(self) -> npt.NDArray[np.float32]:
        """Return the normalized value of each of the 256 pixel values: (256, 1) or (256, channels) float32."""
        import numpy as np

        pixel = np.arange(256, dtype=np.float64)[:, None]
        values: npt.NDArray[np.float64] = (pixel - np.asarray(self.mean)) / np.asarray(self.std)
        return values.astype(np.float32)

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalize (..., channels) uint8 to float32 of the same shape."""
        return apply_table(self.normalized_values(), pixels)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as plain JSON data, which :meth:`from_json` reads."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocessing:
        """Make an object from the data that :meth:`to_json` returns."""
        known = dict(data, mean=tuple(data["mean"]), std=tuple(data["std"]))
        return cls(**known)

    def _enough(self, width: int, height: int) -> tuple[int, int]:
        """Return the image size at which the crop is `_REDUCED_DECODE_FACTOR` times the input's size."""
        left, _, right, _ = self.crop_box(width, height)
        factor = _REDUCED_DECODE_FACTOR * self.width / (right - left)
        return max(1, round(width * factor)), max(1, round(height * factor))


def apply_table(table: npt.NDArray[Any], pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Look up each pixel value in a table.

    Args:
        table: (256, 1), or (256, channels) for one table per channel.
        pixels: (..., channels) uint8.

    Returns:
        Array of the pixels' shape and the table's type.
    """
    import numpy as np

    if table.shape[1] == 1:
        return np.take(table[:, 0], pixels)
    result: npt.NDArray[Any] = table[pixels, np.arange(table.shape[1])]
    return result


def normalization_of_range(low: float, high: float) -> str | None:
    """Return the name of the normalization whose range is [low, high] within 3 %, or None.

    This derives the normalization from the range of a quantized 8-bit input, which is close to the range of the
    normalized images that the model was calibrated on.
    """
    for name, (want_low, want_high) in {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}.items():
        tolerance = 0.03 * (want_high - want_low)
        if abs(low - want_low) <= tolerance and abs(high - want_high) <= tolerance:
            return name
    return None


def parse_normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Parse a normalization: a name in `NORMALIZATIONS`, or ``MEAN/STD`` in pixel values.

    >>> parse_normalization("0..1")
    ((0.0,), (255.0,))
    >>> parse_normalization("123.7,116.3,103.5/58.4,57.1,57.4")
    ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))

    Returns:
        Mean and standard deviation in pixel values, one entry or one per channel each.

    Raises:
        InputError: the text is neither.
    """
    if text in NORMALIZATIONS:
        return NORMALIZATIONS[text]
    try:
        mean, std = (tuple(float(v) for v in part.split(",")) for part in text.split("/"))
    except ValueError:
        names = ", ".join(NORMALIZATIONS)
        raise InputError(
            f"normalization {text!r}: must be one of {names}, or MEAN/STD in pixel values, "
            "for example 127.5/127.5 or 123.7,116.3,103.5/58.4,57.1,57.4"
        ) from None
    return mean, std
