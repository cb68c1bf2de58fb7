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
"""Side in pixels of the smallest input of a published MobileNet, with its output stride of 32."""

_SMALLEST_MAP = 4  # side in cells; a smaller last feature map keeps little spatial information


def choose_output_stride(height: int, width: int) -> int:
    """The largest output stride that leaves a last feature map of 4x4 cells or more; 4 where none does.

    >>> choose_output_stride(224, 224), choose_output_stride(96, 96), choose_output_stride(32, 32)
    (32, 16, 8)
    """
    for stride in reversed(OUTPUT_STRIDES):
        if math.ceil(min(height, width) / stride) >= _SMALLEST_MAP:
            return stride
    return OUTPUT_STRIDES[0]


def default_output_stride(height: int, width: int) -> int:
    """The paper's 32 from `SMALLEST_PUBLISHED` pixels on, and what `choose_output_stride` gives below."""
    if min(height, width) >= SMALLEST_PUBLISHED:
        return OUTPUT_STRIDES[-1]
    return choose_output_stride(height, width)


@dataclass(frozen=True)
class Architecture:
    """A network without its weights.

    Attributes:
        family: one of `FAMILIES`.
        height: of the input, in pixels; `output_stride` or more.
        width: of the input, in pixels; `output_stride` or more.
        alpha: width multiplier, > 0.
        output_stride: input pixels per cell of the last feature map, along a side: 4, 8, 16 or 32.
        classes: how many scores it gives.
        head: what stands between the last feature map and the scores. None: what the family has. 0: global
            average pooling and the classifier. N: global average pooling, N units with ReLU, the classifier.
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
        """Prefix of the names of files made from it, such as ``mobilenet_v2_0.35_32_os8``."""
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
        """The preprocessing of the published weights; MobileNetV3 normalizes pixels in its first layer."""
        mean, std = NORMALIZATIONS["-1..1" if self.family == "mobilenet_v2" else "0..255"]
        return Preprocessing(self.height, self.width, mean, std, crop=default_crop(self.height, self.width))

    def to_json(self) -> dict[str, Any]:
        """Plain data on all that sets it apart from other networks, for provenance."""
        facts = {"architecture": self.family, "alpha": float(self.alpha)}
        if self.output_stride != OUTPUT_STRIDES[-1]:
            facts["output_stride"] = self.output_stride
        return facts if self.head is None else facts | {"head": self.head}
