"""The bundled networks: trained networks that come with edgeq, each with a model card (``models/*.card.json``)."""

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
    """A bundled network.

    Attributes:
        name: base name of its files.
        weights: path of its weights file.
        family: family of its architecture, one of `edgeq.networks.FAMILIES`.
        alpha: width multiplier.
        output_stride: output stride that it was trained with.
        labels: names of its classes.
        sizes: input sides in pixels for which it was trained and measured, in ascending order.
        fp32_top1: top-1 accuracy of the float32 network on the test images, in [0, 1], by input side.
        data: name of the data set that it was trained on.
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
    """Read the cards of all bundled networks, sorted by name."""
    return [_read(path) for path in sorted(shipped("models").glob(f"*{_CARD}"))]


def bundled_for(output_stride: int) -> Bundled:
    """Return the bundled network whose output stride is nearest to the given one.

    Raises:
        WeightsError: this installation lacks the bundled networks.
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
