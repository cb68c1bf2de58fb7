"""Measure drift layer by layer: compare each integer operator's output with that of its float counterpart.

The error of an operator's output includes the errors of all operators before it. So each operator is also run alone: on
the float model's activations at this point, quantized. The remaining error is the operator's own, from its rounded
weights, the range of its output and its bias.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from edgeq.comparison.metrics import sqnr_db
from edgeq.comparison.result import Histogram, LayerDrift
from edgeq.graphs import GraphPair, OperatorPair, OperatorRunner, TappedRunner
from edgeq.graphs.pairing import WEIGHTED
from edgeq.progress import Progress, no_progress
from edgeq.quantization import Quantization
from edgeq.runtime import Model, TensorModel
from edgeq.tflite.graph import Tensor

__all__ = ["measure_layers"]

_WORST = 4  # number of layers that get a histogram
_HISTOGRAM_IMAGES = 8
_BINS = 96
_NO_INDEX = -1

Reals = npt.NDArray[np.float32]
Seen = tuple[Any, Any]
"""A sample for the reference and the same for the candidate: an image, preprocessed to (height, width, channels) uint8,
or for models of plain tensors one array per input, by name."""
Arrays = dict[int, npt.NDArray[Any]]
"""Activations, by the index of their tensor."""


def measure_layers(
    reference: Model | TensorModel,
    candidate: Model | TensorModel,
    pair: GraphPair,
    images: Sequence[Seen],
    progress: Progress = no_progress,
) -> tuple[LayerDrift, ...]:
    """Measure each operator of an INT8 model against the float model.

    Args:
        reference: the float model.
        candidate: the INT8 model.
        pair: the models' graphs.
        images: each image or other sample, for the reference and for the candidate.
        progress: called with ("Comparing layers", done, total).

    Returns:
        One entry per operator and one per input, sorted by the SQNR of the operator alone, lowest first.

    Raises:
        ModelError: the runtime cannot run a part of a model.
    """
    probe = _Probe(reference, candidate, pair)
    tallies = [_ActivationSums(pair.candidate.tensors[row.candidate].quantization) for row in probe.rows]
    for done, (seen, other) in enumerate(images, start=1):
        for tally, values in zip(tallies, probe.run(seen, other), strict=True):
            tally.add(*values)
        progress("Comparing layers", done, len(images))
    drifts = [_drift(pair, row, tally) for row, tally in zip(probe.rows, tallies, strict=True)]
    order = sorted(range(len(drifts)), key=lambda n: (_worst_first(drifts[n]), n))
    counts = probe.histograms(order[:_WORST], tallies, images[:_HISTOGRAM_IMAGES])
    return tuple(replace(drifts[n], histogram=counts.get(n)) for n in order)


def _worst_first(drift: LayerDrift) -> float:
    return np.inf if drift.alone_sqnr_db is None else drift.alone_sqnr_db


@dataclass
class _ActivationSums:
    """Sums over the images for one activation.

    All three values are real numbers: x is the float model's, y the INT8 model's, and z that of the INT8 operator run
    alone.

    Attributes:
        quantization: quantization of the INT8 model's tensor.
    """

    quantization: Quantization
    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    xz: float = 0.0
    noise: float = 0.0
    alone: float = 0.0
    shift: Any = 0.0
    values: int = 0
    beyond: int = 0
    low: float = np.inf
    high: float = -np.inf

    def add(self, x: Reals, y: Reals, z: Reals) -> None:
        """Add the values for one image.

        Args:
            x: the float model's values, (positions, channels).
            y: the INT8 model's values, of the same shape.
            z: the values of the INT8 operator run alone, of the same shape.
        """
        self.xx += float(np.vdot(x, x))
        self.xy += float(np.vdot(x, y))
        self.yy += float(np.vdot(y, y))
        self.xz += float(np.vdot(x, z))
        difference = y - x
        self.noise += float(np.vdot(difference, difference))
        difference = z - x
        self.alone += float(np.vdot(difference, difference))
        self.shift = self.shift + difference.sum(axis=0, dtype=np.float64)
        self.values += x.size
        self.low, self.high = min(self.low, float(x.min())), max(self.high, float(x.max()))
        low, high = self.quantization.real_range
        half_a_step = self.quantization.scale[0] / 2 if self.quantization.is_quantized else 0.0
        if self.low < low or self.high > high:
            self.beyond += int(np.count_nonzero((x < low - half_a_step) | (x > high + half_a_step)))


class _Row(NamedTuple):
    """An activation to measure: the indices of both models' tensors, and the operators that compute it.

    Attributes:
        reference: index of the float model's tensor.
        candidate: index of the INT8 model's tensor.
        match: the operators; None for an input.
    """

    reference: int
    candidate: int
    match: OperatorPair | None = None


class _Probe:
    """Runs both models on an image, and each integer operator alone on the float model's activations."""

    def __init__(self, reference: Model | TensorModel, candidate: Model | TensorModel, pair: GraphPair) -> None:
        self._models = reference, candidate
        self._pair = pair
        operators = [_Row(p.reference.outputs[0], p.candidate.outputs[0], p) for p in pair.operators]
        self.rows = [*(_Row(*indices) for indices in pair.inputs), *operators]
        self._counterpart = {row.candidate: row.reference for row in self.rows}
        for p in pair.operators:  # of an operator with several outputs, the others are read by other operators
            self._counterpart.update(zip(p.candidate.outputs, p.reference.outputs, strict=False))
        self._float = TappedRunner(pair.reference, list(self._counterpart.values()), reference.runtime)
        self._integer = TappedRunner(pair.candidate, [row.candidate for row in self.rows], candidate.runtime)
        self._runners = {
            operator.outputs[0]: OperatorRunner(pair.candidate, operator, candidate.runtime)
            for operator in pair.candidate.operators
        }

    def run(self, seen: Any, other: Any) -> list[tuple[Reals, Reals, Reals]]:
        """Return the values of the inputs and of each operator's output for one sample.

        Returns:
            For each of `rows`: the values of the float model, of the INT8 model and of the INT8 operator run alone,
            (positions, channels) each.
        """
        reference, candidate = self._models
        floats, integers = self._pair.reference.tensors, self._pair.candidate.tensors
        expected = {
            index: _real(floats[index], values) for index, values in self._float.run(*reference.tensors(seen)).items()
        }
        found = self._integer.run(*candidate.tensors(other))
        inputs: Arrays = {}
        results = []
        for row in self.rows:
            x, made = _matrix(expected[row.reference]), row.candidate
            alone = self._made(made, expected, inputs) if made in self._runners else self._input(made, expected, inputs)
            y, z = (_matrix(_real(integers[made], values)) for values in (found[made], alone))
            extra_channels = row.match.extra_channels if row.match else 0
            y, z = (values[:, extra_channels:].reshape(x.shape) for values in (y, z))
            results.append((x, y, z))
        return results

    def _made(self, index: int, expected: Arrays, inputs: Arrays) -> npt.NDArray[Any]:
        """Return an INT8 tensor, computed by its operator from the float model's activations, quantized."""
        runner = self._runners[index]
        return runner.run([self._input(i, expected, inputs) for i in runner.inputs])

    def _input(self, index: int, expected: Arrays, inputs: Arrays) -> npt.NDArray[Any]:
        """Return the float model's values for a tensor of the INT8 model, quantized as that tensor is."""
        if index not in inputs:
            if index in self._counterpart:
                tensor = self._pair.candidate.tensors[index]
                quantized = tensor.quantization.quantize(expected[self._counterpart[index]])
                inputs[index] = quantized.reshape(tensor.shape)
            else:  # computed by a transparent operator, which the float model may not have
                inputs[index] = self._made(index, expected, inputs)
        return inputs[index]

    def histograms(
        self, numbers: Sequence[int], tallies: Sequence[_ActivationSums], images: Sequence[Seen]
    ) -> dict[int, Histogram]:
        """Compute the histograms of some activations over a few images.

        Args:
            numbers: which activations: positions in `rows`.
            tallies: the sums of all activations, which give the histograms' ends.
            images: see :func:`measure_layers`.
        """
        ends = {n: (tallies[n].low, max(tallies[n].high, tallies[n].low + 1e-6)) for n in numbers}
        sums = {n: np.zeros((2, _BINS), np.int64) for n in numbers}
        for seen, other in images:
            results = self.run(seen, other)
            for n in numbers:
                sums[n] += [np.histogram(np.clip(v, *ends[n]), _BINS, ends[n])[0] for v in results[n][:2]]
        found = {}
        for n in numbers:
            quantization = tallies[n].quantization
            if quantization.is_quantized:
                counts = [tuple(int(c) for c in side) for side in sums[n]]
                found[n] = Histogram(*ends[n], counts[0], counts[1], quantization.scale[0], *quantization.real_range)
        return found


def _drift(pair: GraphPair, row: _Row, tally: _ActivationSums) -> LayerDrift:
    """Compute the measures of one activation from its sums."""
    match, tensor = row.match, pair.reference.tensors[row.reference]
    low, high = tally.quantization.real_range
    channels = np.size(tally.shift)
    constant = float(np.sum(np.square(tally.shift))) * channels / max(tally.values, 1)
    norm = float(np.sqrt(tally.xx * tally.yy))
    return LayerDrift(
        index=match.candidate.index if match else _NO_INDEX,
        operator=match.candidate.name if match else "INPUT",
        name=tensor.name,
        shape=tensor.shape,
        sqnr_db=_decibels(tally.xx, tally.noise),
        alone_sqnr_db=_decibels(tally.xx, tally.alone),
        cosine=tally.xy / norm if norm else 1.0,
        gain=tally.xz / tally.xx if tally.xx else 1.0,
        mean_shift=min(1.0, constant / tally.alone) if tally.alone else 0.0,
        saturation=tally.beyond / tally.values,
        range_use=min(1.0, (tally.high - tally.low) / (high - low)) if np.isfinite(high - low) else 1.0,
        weight_sqnr_db=_weight_sqnr(pair, match) if match else None,
    )


def _weight_sqnr(pair: GraphPair, match: OperatorPair) -> float | None:
    """Return the signal-to-quantization-noise ratio of an operator's weights in decibels.

    None for an operator without weights, or if its weights are exact.
    """
    if match.reference.name not in WEIGHTED or match.candidate.name not in WEIGHTED:
        return None
    expected, found = (
        graph.tensors[operator.inputs[1]].dequantize().ravel()
        for graph, operator in ((pair.reference, match.reference), (pair.candidate, match.candidate))
    )
    noise = found[found.size - expected.size :] - expected  # without the background class
    return _decibels(float(expected @ expected), float(noise @ noise))


def _decibels(signal: float, noise: float) -> float | None:
    """Return the SQNR in decibels: None if there is no noise, very low if there is no signal (JSON has no infinity)."""
    if noise == 0:
        return None
    return sqnr_db(max(signal, 1e-30), noise)


def _real(tensor: Tensor, values: npt.NDArray[Any]) -> Reals:
    """Copy an activation and dequantize it. A copy, because the runtime reuses its memory in the next run."""
    if not tensor.quantization.is_quantized:
        return np.array(values, np.float32)
    centred = values.astype(np.float32) - np.float32(tensor.quantization.zero_point[0])
    return np.asarray(centred * np.float32(tensor.quantization.scale[0]), np.float32)


def _matrix(activation: Reals) -> Reals:
    """Reshape a (1, ..., channels) activation to (positions, channels)."""
    return activation.reshape(-1, activation.shape[-1])
