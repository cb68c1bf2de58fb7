"""The trained networks that come with edgeq, each with a card that says what it is (``models/*.card.json``)."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.errors import WeightsError
from edgeq.files import shipped

__all__ = ["Bundled", "bundled_for", "bundled_networks"]


_CARD = ".card.json"


@dataclass(frozen=True)
class Bundled:
    """A network that comes with edgeq.

    Attributes:
        name: base name of its files.
        weights: its weights file.
        family: of its architecture.
        alpha: width multiplier.
        output_stride: it was trained with.
        labels: its classes.
        sizes: smallest and largest input side that it is good at, in pixels.
        fp32_top1: accuracy in [0, 1] on its test images, by size.
        data: name of the data that it was trained on.
    """

    name: str
    weights: Path
    family: str
    alpha: float
    output_stride: int
    labels: tuple[str, ...]
    sizes: tuple[int, ...]
    fp32_top1: dict[int, float]
    data: str


def bundled_networks() -> list[Bundled]:
    """All of them, in the order of their names."""
    return [_read(path) for path in sorted(shipped("models").glob(f"*{_CARD}"))]


def bundled_for(output_stride: int) -> Bundled:
    """The one whose output stride is nearest.

    Raises:
        WeightsError: this installation lacks them.
    """
    networks = bundled_networks()
    if not networks:
        raise WeightsError("the networks that come with edgeq are missing here; install edgeq again")
    return min(networks, key=lambda network: abs(network.output_stride - output_stride))


def _read(path: Path) -> Bundled:
    card: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    network, name = card["network"], path.name.removesuffix(_CARD)
    return Bundled(
        name=name,
        weights=path.with_name(f"{name}.weights.h5"),
        family=network["architecture"],
        alpha=network["alpha"],
        output_stride=network["output_stride"],
        labels=tuple(network["classes"]),
        sizes=tuple(network["sizes"]),
        fp32_top1={int(size): value["fp32"] for size, value in card["top1"].items()},
        data=card["data"],
    )
