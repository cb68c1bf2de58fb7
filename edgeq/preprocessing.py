"""From a picture to what a network sees: the one definition for calibration, inference and comparison.

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
"""Mean and standard deviation, in pixel values, of the normalizations that have a name.

The first three are named for the range that they give; ``imagenet`` is torchvision's."""

_REDUCED_DECODE_FACTOR = 2
"""JPEGs are decoded at reduced scale as long as they stay this many times larger than needed."""


def default_crop(height: int, width: int) -> float:
    """The centre crop where none is stated: 0.875 as in ImageNet's evaluations, all of it below 128 pixels.

    Networks for small inputs are trained and measured on whole pictures, and every pixel counts there.
    """
    return 0.875 if min(height, width) >= 128 else 1.0


@dataclass(frozen=True)
class Preprocessing:
    """How an image becomes a network's input.

    Attributes:
        height: of the input, in pixels.
        width: of the input, in pixels.
        mean: subtracted from pixel values 0 to 255; one entry, or one a channel.
        std: divides what remains; as many entries.
        channels: ``RGB``, ``BGR`` or ``L`` (one grey channel).
        crop: side of the centre crop, as a share of the largest box that fits; in (0, 1].
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
        """What decides the pixels: two preprocessings of equal geometry can share them."""
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
        """The first step of :meth:`pixels`: an upright picture, at reduced scale where that suffices.

        Raises:
            ImageError: the image cannot be decoded.
        """
        return images.decode(source, "L" if self.channels == "L" else "RGB", self._enough)

    def resample(self, image: Image.Image) -> npt.NDArray[np.uint8]:
        """The other steps of :meth:`pixels`: crop and resample what :meth:`decode` gave."""
        import numpy as np

        box = self.crop_box(*image.size)
        size = (self.width, self.height)
        if image.size != size or box != (0.0, 0.0, *image.size):
            image = image.resize(size, Image.Resampling.BILINEAR, box=box)
        pixels = np.asarray(image, np.uint8).reshape(self.height, self.width, len(self.channels))
        return pixels[:, :, ::-1] if self.channels == "BGR" else pixels

    def crop_box(self, width: float, height: float) -> tuple[float, float, float, float]:
        """Left, top, right and bottom of the centre crop of a picture of that size, in pixels."""
        scale = min(width / self.width, height / self.height) * self.crop
        # Rounding may put an edge a hair outside of the picture.
        left, top = max(0.0, (width - self.width * scale) / 2), max(0.0, (height - self.height * scale) / 2)
        return left, top, min(left + self.width * scale, width), min(top + self.height * scale, height)

    def normalized_values(self) -> npt.NDArray[np.float32]:
        """What each of the 256 pixel values becomes: (256, 1) or (256, channels) float32."""
        import numpy as np

        pixel = np.arange(256, dtype=np.float64)[:, None]
        values: npt.NDArray[np.float64] = (pixel - np.asarray(self.mean)) / np.asarray(self.std)
        return values.astype(np.float32)

    def normalize(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        """Normalize (..., channels) uint8 to float32 of the same shape."""
        return apply_table(self.normalized_values(), pixels)

    def to_json(self) -> dict[str, Any]:
        """Plain data, from which :meth:`from_json` makes an equal object."""
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
    """Look each pixel up.

    Args:
        table: (256, 1), or (256, channels) for a table a channel.
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
    """Name of the normalization whose range is within 3 % of [low, high], or None where none is.

    This is how the normalization is read off an 8-bit input's quantization: a network that was calibrated on
    [-1, 1] has an input whose integers cover just about [-1, 1].
    """
    for name, (want_low, want_high) in {"-1..1": (-1, 1), "0..1": (0, 1), "0..255": (0, 255)}.items():
        tolerance = 0.03 * (want_high - want_low)
        if abs(low - want_low) <= tolerance and abs(high - want_high) <= tolerance:
            return name
    return None


def parse_normalization(text: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Read a normalization as a user writes it: a name of `NORMALIZATIONS`, or ``MEAN/STD`` in pixel values.

    >>> parse_normalization("0..1")
    ((0.0,), (255.0,))
    >>> parse_normalization("123.7,116.3,103.5/58.4,57.1,57.4")
    ((123.7, 116.3, 103.5), (58.4, 57.1, 57.4))

    Raises:
        InputError: neither.
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
