"""Draw conclusions from a comparison's measurements: what is broken, where drift comes from, what to try next.

Each rule uses only numbers that the report shows, so that a reader can verify it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

import numpy as np

from edgeq.comparison.result import Comparison, LayerDrift
from edgeq.comparison.tensor_result import TensorComparison
from edgeq.graphs import GraphPair
from edgeq.graphs.pairing import WEIGHTED
from edgeq.runtime import Model

__all__ = ["find_advice", "find_faults", "find_layer_faults", "find_tensor_advice"]

# A layer is broken if its *alone* SQNR (see `LayerDrift`) is below both of these limits. At 12 dB, the noise has a
# quarter of the signal's amplitude; correct INT8 rounding leaves at least 25 dB.
_BROKEN_DB = 12.0
_BELOW_MEDIAN_DB = 10.0  # the second limit is this much below the median of the network's layers
_WEIGHTS_DB = 20.0  # limit for weights: rounding to 8 bits leaves at least 35 dB per channel, 25 dB per tensor
_GAIN = 0.25
_SHIFT = 0.6
_SATURATION = 0.01
_RANGE_USE = 0.35
_WELL_DB = 25.0  # no advice is needed if no output's SQNR is below
_WELL = 0.98  # no advice is needed at or above this agreement
_ENOUGH_PHOTOS = 100


def find_faults(reference: Model, candidate: Model, layers: Sequence[LayerDrift], pair: GraphPair) -> tuple[str, ...]:
    """Find what is broken.

    Args:
        reference: the float model.
        candidate: the INT8 model.
        layers: drift layer by layer.
        pair: the models' graphs.

    Returns:
        One sentence per fault, without its full stop, in the order of the network.
    """
    return (*_input_faults(reference, candidate, layers, pair), *find_layer_faults(layers, pair))


def _input_faults(reference: Model, candidate: Model, layers: Sequence[LayerDrift], pair: GraphPair) -> list[str]:
    """Find faults before the first operator: colour order, normalization, the input's range."""
    ours, theirs = reference.preprocessing, candidate.preprocessing
    (row,) = [layer for layer in layers if layer.operator == "INPUT"]
    found = []
    if ours.channels != theirs.channels:
        found.append(f"the colours go in as {theirs.channels}, but the reference takes {ours.channels}")
    elif _sees_reversed_colours(pair):
        found.append(
            "the first layer's weights fit the reference's with red and blue swapped: one of the two models takes BGR"
        )
    if (ours.mean, ours.std) != (theirs.mean, theirs.std):
        expected, got = ("{:.4g}..{:.4g}".format(*spec.real_range) for spec in (ours, theirs))
        found.append(f"pixels are normalized to {got}, but the reference takes {expected}: wrong normalization")
    elif row.saturation > _SATURATION or row.range_use < 0.6:
        low, high = pair.candidate.tensors[pair.candidate.inputs[0]].quantization.real_range
        expected = "{:.4g}..{:.4g}".format(*ours.real_range)
        found.append(
            f"the input holds {low:.4g}..{high:.4g}, but pixels become {expected}: it was calibrated with another "
            "normalization"
        )
    return found


def _sees_reversed_colours(pair: GraphPair) -> bool:
    """Return whether the first convolution's weights match the reference's only with reversed colour channels."""
    first = next((p for p in pair.operators if p.reference.name in WEIGHTED), None)
    if first is None:
        return False
    expected = pair.reference.tensors[first.reference.inputs[1]].dequantize()
    found = pair.candidate.tensors[first.candidate.inputs[1]].dequantize()
    if expected.shape != found.shape or expected.shape[-1] != 3:
        return False
    noise, reversed_noise = (float(np.sum((found - w) ** 2)) for w in (expected, expected[..., ::-1]))
    return reversed_noise < noise / 10


def find_layer_faults(layers: Sequence[LayerDrift], pair: GraphPair) -> list[str]:
    """Find the layers whose *alone* SQNR is far below that of the others.

    Returns:
        One sentence per layer, without its full stop, in the order of the network.
    """
    inner = {layer.index: layer for layer in layers if layer.operator != "INPUT" and layer.alone_sqnr_db is not None}
    if not inner:
        return []
    limit = min(_BROKEN_DB, median(layer.alone_sqnr_db or 0.0 for layer in inner.values()) - _BELOW_MEDIAN_DB)
    culprits = [layer for _, layer in sorted(inner.items()) if (layer.alone_sqnr_db or 0.0) < limit]
    victims: set[int] = set()
    for layer in culprits:
        if layer.index not in victims and (layer.range_use < _RANGE_USE or layer.saturation > _SATURATION):
            # Its output is too coarse or clipped: the operators that read it are affected, but not at fault.
            for made in pair.candidate.operators[layer.index].outputs:
                victims.update(reader.index for reader in pair.candidate.consumers.get(made, ()))
    return [f"{_named(layer)} is broken: {_why(layer)}" for layer in culprits if layer.index not in victims]


def _named(layer: LayerDrift) -> str:
    return f"operator {layer.index} ({layer.operator} to {'x'.join(map(str, layer.shape[1:]))})"


def _why(layer: LayerDrift) -> str:
    """Explain from a layer's measures what is wrong with it."""
    alone = f"alone it has {layer.alone_sqnr_db:.1f} dB"
    if layer.weight_sqnr_db is not None and layer.weight_sqnr_db < _WEIGHTS_DB:
        return f"{alone}, its weights {layer.weight_sqnr_db:.1f} dB: their scale or their values are wrong"
    if layer.saturation > _SATURATION:
        return f"{alone}, and {layer.saturation:.1%} of its values lie beyond its range: its scale is too small"
    if layer.range_use < _RANGE_USE:
        return f"{alone}, and its values use {layer.range_use:.0%} of its range: its scale is too large"
    if layer.mean_shift > _SHIFT:
        return f"{alone}, and {layer.mean_shift:.0%} of its error is constant within a channel: its bias is wrong"
    if abs(layer.gain - 1) > _GAIN:
        return f"{alone}, and its values are {layer.gain:.2g} times the reference's: a scale is wrong"
    return f"{alone}, which rounding does not explain"


def find_advice(
    comparison: Comparison, candidate: Model, layers: Sequence[LayerDrift], is_broken: bool
) -> tuple[str, ...]:
    """Advise what to try next.

    Args:
        comparison: the comparison's measurements.
        candidate: the INT8 model.
        layers: drift layer by layer.
        is_broken: whether there are faults.

    Returns:
        One sentence per piece of advice, without its full stop.
    """
    provenance, drifts = candidate.metadata.provenance, comparison.agreement < _WELL
    return _advice("photos", bool(comparison.calibration_overlap), is_broken, drifts, provenance, layers)


def find_tensor_advice(
    comparison: TensorComparison, provenance: Mapping[str, Any], layers: Sequence[LayerDrift], is_broken: bool
) -> tuple[str, ...]:
    """Advise what to try next for models of plain tensors.

    Args:
        comparison: the comparison's measurements.
        provenance: the INT8 model's provenance.
        layers: drift layer by layer.
        is_broken: whether there are faults.

    Returns:
        One sentence per piece of advice, without its full stop.
    """
    drifts = comparison.sqnr_db is not None and comparison.sqnr_db < _WELL_DB
    return _advice("samples", bool(comparison.calibration_overlap), is_broken, drifts, provenance, layers)


def _advice(
    what: str,
    overlaps: bool,
    is_broken: bool,
    drifts: bool,
    provenance: Mapping[str, Any],
    layers: Sequence[LayerDrift],
) -> tuple[str, ...]:
    """Advise what to try next; `what` names the data, and `overlaps` says whether the model was calibrated on some."""
    advice = [f"compare on {what} that the model was not calibrated on"] if overlaps else []
    if is_broken:
        advice.append("fix what is broken first, or convert again from the float network")
    elif drifts:
        advice += _advice_for_drift(provenance, layers, what)
    return tuple(advice)


def _advice_for_drift(provenance: Mapping[str, Any], layers: Sequence[LayerDrift], what: str) -> list[str]:
    """Advise what to try against drift that comes from rounding and ranges; `what` names the calibration data."""
    advice = []
    if not provenance.get("refinement"):
        advice.append("this model is not refined: edgeq refine corrects rounding errors at no cost in size or speed")
    count = provenance.get("calibration", {}).get("count", _ENOUGH_PHOTOS)
    if count < _ENOUGH_PHOTOS:
        advice.append(f"it was calibrated on {count} {what}: take {_ENOUGH_PHOTOS} or more, like those it will see")
    narrow = [layer for layer in layers if layer.saturation > _SATURATION]
    if narrow:
        count_of = "1 activation saturates" if len(narrow) == 1 else f"{len(narrow)} activations saturate"
        advice.append(f"{count_of}, {_named(narrow[0])} first: calibrate on {what} like these")
    advice.append("if nothing else helps, edgeq convert --int16x8 keeps activations in 16 bits")
    return advice
