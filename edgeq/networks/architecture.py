"""The architecture of a network: its family, input size, width and head."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from edgeq.errors import InputError
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing, default_crop

__all__ = ["FAMILIES", "OUTPUT_STRIDES", "Architecture", "choose_output_stride", "default_output_stride"]

FAMILIES = (
    "mobilenet_v2",
    "mobilenet_v3_large",
    "mobilenet_v3_small",
    "mobilenet_v3_large_minimalistic",
    "mobilenet_v3_small_minimalistic",
)
OUTPUT_STRIDES = (4, 8, 16, 32)
SMALLEST_PUBLISHED = 96
"""Side in pixels of the smallest input for which MobileNet weights were published; their output stride is 32."""

_SMALLEST_MAP = 4  # side in cells; a smaller last feature map has little spatial information left


def choose_output_stride(height: int, width: int) -> int:
    """Choose the largest output stride with a last feature map of at least 4x4 cells; 4 if no stride has one.

    >>> choose_output_stride(224, 224), choose_output_stride(96, 96), choose_output_stride(32, 32)
    (32, 16, 8)
    """
    for stride in reversed(OUTPUT_STRIDES):
        if math.ceil(min(height, width) / stride) >= _SMALLEST_MAP:
            return stride
    return OUTPUT_STRIDES[0]


def default_output_stride(height: int, width: int) -> int:
    """Return the default output stride: the paper's 32, or `choose_output_stride` for inputs below 96 pixels."""
    if min(height, width) >= SMALLEST_PUBLISHED:
        return OUTPUT_STRIDES[-1]
    return choose_output_stride(height, width)


@dataclass(frozen=True)
class Architecture:
    """The architecture of a network: everything except its weights.

    Attributes:
        family: one of `FAMILIES`.
        height: height of the input in pixels, at least `output_stride`.
        width: width of the input in pixels, at least `output_stride`.
        alpha: width multiplier, positive.
        output_stride: input side divided by the side of the last feature map: 4, 8, 16 or 32.
        classes: number of scores, one per class.
        head: layers between the last feature map and the scores. None for the family's own head; 0 for global average
            pooling and the classifier; N for global average pooling, N units with ReLU, and the classifier.
    """

    family: str = "mobilenet_v2"
    height: int = 224
    width: int = 224
    alpha: float = 1.0
    output_stride: int = 32
    classes: int = 1000
    head: int | None = None

    def __post_init__(self) -> None:
        if self.family not in FAMILIES:
            raise InputError(f"network {self.family!r}: must be one of {', '.join(FAMILIES)}")
        if not 0 < self.alpha < math.inf:
            raise InputError(f"width multiplier {self.alpha}: must be positive")
        if self.output_stride not in OUTPUT_STRIDES:
            raise InputError(f"output stride {self.output_stride}: must be 4, 8, 16 or 32")
        if min(self.height, self.width) < self.output_stride:
            smaller = (
                "" if self.output_stride == OUTPUT_STRIDES[0] else f"; with --output-stride auto, {OUTPUT_STRIDES[0]}"
            )
            raise InputError(
                f"input size {self.width}x{self.height}: too small for an output stride of {self.output_stride}; the "
                f"smallest possible side is {self.output_stride} pixels{smaller}"
            )
        if self.classes < 1:
            raise InputError(f"{self.classes} classes: must be 1 or more")
        if self.head is not None and self.head < 0:
            raise InputError(f"head {self.head}: must be 0 or more units")

    @property
    def name(self) -> str:
        """Name of the network and prefix of the names of its files, such as ``mobilenet_v2_0.35_32_os8``."""
        size = str(self.height) if self.height == self.width else f"{self.width}x{self.height}"
        stride = "" if self.output_stride == OUTPUT_STRIDES[-1] else f"_os{self.output_stride}"
        head = "" if self.head is None else f"_head{self.head}"
        return f"{self.family}_{float(self.alpha)}_{size}{stride}{head}"

    @property
    def last_map(self) -> tuple[int, int]:
        """Height and width of the last feature map, in cells."""
        return math.ceil(self.height / self.output_stride), math.ceil(self.width / self.output_stride)

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing for the published weights. MobileNetV3 normalizes pixels in its first layer."""
        mean, std = NORMALIZATIONS["-1..1" if self.family == "mobilenet_v2" else "0..255"]
        return Preprocessing(self.height, self.width, mean, std, crop=default_crop(self.height, self.width))

    def to_json(self) -> dict[str, Any]:
        """Return the architecture as plain JSON data for provenance, without the input size and the classes."""
        facts = {"architecture": self.family, "alpha": float(self.alpha)}
        if self.output_stride != OUTPUT_STRIDES[-1]:
            facts["output_stride"] = self.output_stride
        return facts if self.head is None else facts | {"head": self.head}
