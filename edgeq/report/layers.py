"""The layers of a comparison, as text for the terminal."""

from __future__ import annotations

from collections.abc import Sequence

from edgeq.comparison import LayerDrift
from edgeq.report.tables import table
from edgeq.report.wording import percent

__all__ = ["layer_lines"]

_MOST_LAYERS = 8


def layer_lines(layers: Sequence[LayerDrift], width: int) -> list[str]:
    """Format the layers with the lowest SQNR alone as a table that fits `width` characters."""
    shown = layers[:_MOST_LAYERS]
    heading = ("operator", "output", "alone", "accum.", "cosine", "gain", "saturated", "range", "weights")
    rows = [
        (
            f"{layer.index} {layer.operator}" if layer.index >= 0 else layer.operator,
            "x".join(map(str, layer.shape[1:])),
            _decibels(layer.alone_sqnr_db),
            _decibels(layer.sqnr_db),
            f"{layer.cosine:.4f}",
            f"{layer.gain:.3f}",
            percent(layer.saturation),
            f"{layer.range_use:.0%}",
            _decibels(layer.weight_sqnr_db),
        )
        for layer in shown
    ]
    first = f", the {len(shown)} worst" if len(shown) < len(layers) else ""
    return [f"SQNR in dB of {len(layers)} layers{first}:", *table([heading, *rows], width)]


def _decibels(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"
