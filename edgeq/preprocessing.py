"""Preprocessing of images: the one definition for calibration, inference and comparison.

1. Decode, upright (:mod:`edgeq.images`).
2. Cut out the centre: the largest box with the input's aspect ratio, times `crop`.
3. Resample that box to the input's size, bilinear with antialiasing, in one step.
4. Normalize each of the 256 pixel values: ``(pixel - mean) / std``.

Steps 2 and 3 equal the usual "shorter side to 256, centre crop of 224" without its intermediate picture.

NumPy is imported where it is used: the first image can be decoded while NumPy, which takes a third of the
start-up time, is still being loaded.
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
"""Mean and standard deviation, in pixel values, of the named normalizations.

The first three are named for the range of their results; ``imagenet`` is torchvision's."""

_REDUCED_DECODE_FACTOR = 2
"""JPEGs are decoded at reduced scale if they stay at least this many times larger than needed."""


def default_crop(height: int, width: int) -> float:
    """Return the default centre crop: 0.875 as in ImageNet's evaluations, or 1.0 for inputs below 128 pixels.

    Networks for small inputs are trained and evaluated on whole pictures.
    """
    return 0.875 if min(height, width) >= 128 else 1.0


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    Attributes:
        height: of the input, in pixels.
        width: of the input, in pixels.
        mean: subtracted from pixel values 0 to 255; one entry, or one per channel.
        std: divides the result; one entry, or one per channel.
        channels: ``RGB``, ``BGR`` or ``L`` (one grey channel).
        crop: side of the centre crop, as a fraction of the largest box that fits; in (0, 1].
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
        """The settings that determine the pixels; two objects with equal geometry give the same pixels."""
        return self.height, self.width, self.channels, self.crop

    @property
    def real_range(self) -> tuple[float, float]:
        """Smallest and largest value that a network's input can take."""
        table = self.normalized_values()
        return float(table.min()), float(table.max())

    def pixels(self, source: images.Source) -> npt.NDArray[np.uint8]:
        """Decode, crop and resample one image.

        Returns:
            (height, width, len(channels)) uint8.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return self.resample(self.decode(source))

    def decode(self, source: images.Source) -> Image.Image:
        """Do the first step of :meth:`pixels`: an upright picture, at reduced scale if that suffices.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return images.decode(source, "L" if self.channels == "L" else "RGB", self._enough)

    def resample(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """Do the other steps of :meth:`pixels`: crop and resample the result of :meth:`decode`."""
        import numpy as np

        box = self.crop_box(*image.size)
        size = (self.width, self.height)
        if image.size != size or box != (0.0, 0.0, *image.size):
            image = image.resize(size, Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(image, np.uint8).reshape(self.height, self.width, len(self.channels))
        return pixels[:, :, ::-1] if self.channels == "BGR" else pixels

    def crop_box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Return left, top, right and bottom of the centre crop of a picture of that size, in pixels."""
        scale = min(width / self.width, height / self.height) * self.crop
        # Rounding errors may put an edge slightly outside the picture.
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
        """Return plain JSON data; :meth:`from_json` reads it."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Preprocessing:
        """Read what :meth:`to_json` wrote."""
        known = dict(data, mean=tuple(data["mean"]), std=tuple(data["std"]))
        return cls(**known)

    def _enough(self, width: int, height: int) -> tuple[int, int]:
        """Size at which the crop is `_REDUCED_DECODE_FACTOR` times the input's size."""
        left, _, right, _ = self.crop_box(width, height)
        factor = _REDUCED_DECODE_FACTOR * self.width / (right - left)
        return max(1, round(width * factor)), max(1, round(height * factor))


def apply_table(table: npt.NDArray[Any], pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
    """Look up each pixel in a table.

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
    """Return the name of the normalization whose range is within 3 % of [low, high], or None.

    This derives the normalization from the quantization of an 8-bit input: after calibration on [-1, 1], the input's
    integers cover about [-1, 1].
    """
    for name, (want_low, want_high) in {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}.items():
        tolerance = 0.03 * (want_high - want_low)
        if abs(low - want_low) <= tolerance and abs(high - want_high) <= tolerance:
            return name
    return None


def parse_normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Parse a normalization from the command line: a name of `NORMALIZATIONS`, or ``MEAN/STD`` in pixel values.

    >>> parse_normalization("0..1")
    ((0.0,), (255.0,))
    >>> parse_normalization("123.7,116.3,103.5/58.4,57.1,57.4")
    ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))

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
