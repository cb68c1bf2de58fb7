"""Observe a float network on the calibration images, in one pass: ranges, histograms, and the inputs of its layers.

Quantization takes the ranges; refinement takes the histograms and the layers' inputs.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from threading import local
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graphs import TappedRunner
from edgeq.graphs.pairing import WEIGHTED
from edgeq.progress import Progress, no_progress
from edgeq.refinement.histogram import Histogram
from edgeq.refinement.layers import Layer
from edgeq.tflite.graph import Graph, Operator
from edgeq.threads import one_blas_thread, run_in_order

__all__ = ["Inputs", "Observation", "Sample", "is_clamped", "observe", "observe_integers"]

Sample = Sequence[npt.NDArray[Any]]
"""What a network computes one result from: one array per input of its graph, of the input's shape and type."""

_SAMPLED_ENTRIES = 1 << 20
"""Number of values to sample per layer, which limits memory for any number of images."""

_FEWEST_ROWS = 512
_MOST_ROWS = 8192
_NO_ACTIVATION, _RELU, _RELU6 = 0, 1, 3  # schema.fbs: ActivationFunctionType
_NOT_NEGATIVE = ("RELU", "RELU6", "RELU_0_TO_1", "SOFTMAX", "LOGISTIC")


@dataclass(frozen=True)
class Inputs:
    """The inputs of one layer on all images.

    Attributes:
        mean: mean of all patches of all images, (kernel height, kernel width, input channels) float64.
        positions: the output positions whose patches are sampled, numbered row by row: (positions,) int64.
        patches: the sampled patches, image by image: (count, kernel height, kernel width, input channels) float32.
    """

    mean: npt.NDArray[np.float64]
    positions: npt.NDArray[np.int64]
    patches: npt.NDArray[np.float32]


@dataclass(frozen=True)
class Observation:
    """What a float network computed on the calibration images.

    Attributes:
        graph: the network.
        ranges: smallest and largest value of each observed activation over all images, by the tensor's index. They
            include 0.
        fitted_ranges: the same without the images held out.
        histograms: the values of each activation that nothing clamps, by the tensor's index, without the images held
            out.
        inputs: the inputs of each layer, by the operator's index, without the images held out.
        outputs: the network's outputs for each image, in order.
    """

    graph: Graph
    ranges: dict[int, tuple[float, float]]
    fitted_ranges: dict[int, tuple[float, float]]
    histograms: dict[int, Histogram]
    inputs: dict[int, Inputs]
    outputs: list[Sample]


def is_clamped(operator: Operator) -> bool:
    """Return whether an activation function is fused to a layer or an ADD."""
    return bool(operator.options.fusedActivationFunction != _NO_ACTIVATION)


@one_blas_thread
def observe(
    graph: Graph,
    samples: Sequence[Sample],
    *,
    held_out: Collection[int] = (),
    all_activations: bool = False,
    layers: bool = True,
    patches: bool = True,
    runtime: str | None = None,
    threads: int = 1,
    progress: Progress = no_progress,
) -> Observation:
    """Run a float network on each sample, and record what quantization and refinement need.

    The result does not depend on the number of threads: each runs whole samples on kernels of one thread, and the
    records are joined in the order of the samples.

    Args:
        graph: the float network.
        samples: its inputs.
        held_out: positions of the samples that refinement must not see; only the ranges include them.
        all_activations: whether to record the ranges of all activations, which quantization needs, or only of those
            that refinement may change.
        layers: whether to record what only refinement needs: histograms and the layers' inputs.
        patches: whether to keep a sample of the layers' patches as well as their mean.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        threads: number of samples to run at the same time.
        progress: called with ("Calibrating", done, total).

    Raises:
        ModelError: the runtime cannot run the network.
    """
    found = [Layer(graph, operator) for operator in graph.operators if operator.name in WEIGHTED and layers]
    found = [layer for layer in found if layer.refinable]
    fitted = len(samples) - len(set(held_out))
    chosen = [
        _choose_positions(layer, number, fitted) if patches else np.zeros(0, np.int64)
        for number, layer in enumerate(found)
    ]
    plan = _Plan(graph, found, chosen, all_activations, layers)
    means: list[Any] = [0.0 for _ in found]
    sampled = [
        np.empty((fitted, len(positions), *layer.kernel, layer.channels), np.float32)
        for layer, positions in zip(found, chosen, strict=True)
    ]
    seen = 0
    ranges, fitted_ranges = (dict.fromkeys(plan.ranged, (0.0, 0.0)) for _ in range(2))
    histograms = {index: Histogram() for index in plan.counted}
    outputs = []
    progress("Calibrating", 0, len(samples))
    for done, record in enumerate(_run_all(plan, samples, held_out, runtime, threads), start=1):
        for widened in (ranges,) if done - 1 in held_out else (ranges, fitted_ranges):
            for index, (low, high) in record.ranges.items():
                widened[index] = min(widened[index][0], low), max(widened[index][1], high)
        for index, counts in record.counts.items():
            histograms[index].add(counts)
        for number, (mean, rows) in enumerate(record.inputs):
            means[number] = means[number] + mean
            sampled[number][seen] = rows
        seen += done - 1 not in held_out
        outputs.append(record.outputs)
        progress("Calibrating", done, len(samples))
    inputs = {
        layer.operator.index: Inputs(mean / fitted, positions, rows.reshape(-1, *rows.shape[2:]))
        for layer, mean, positions, rows in zip(found, means, chosen, sampled, strict=True)
    }
    return Observation(graph, ranges, fitted_ranges, histograms, inputs, outputs)


@dataclass(frozen=True)
class _Record:
    """What is kept of one sample; the attributes correspond to those of `Observation`."""

    ranges: dict[int, tuple[float, float]]
    counts: dict[int, npt.NDArray[np.int64]]
    inputs: list[tuple[npt.NDArray[np.float64], npt.NDArray[np.float32]]]
    outputs: Sample


class _Plan:
    """What to record of each sample.

    Attributes:
        ranged: indices of the activations whose ranges are recorded.
        counted: indices of the activations whose values are counted.
    """

    def __init__(
        self,
        graph: Graph,
        layers: Sequence[Layer],
        positions: Sequence[npt.NDArray[np.int64]],
        all_activations: bool,
        counting: bool,
    ) -> None:
        self.graph = graph
        self._layers, self._positions = layers, positions
        summing = [operator for operator in graph.operators if operator.name in (*WEIGHTED, "ADD")]
        self.counted = [operator.outputs[0] for operator in summing if counting and not is_clamped(operator)]
        self.ranged = [operator.outputs[0] for operator in summing]
        if all_activations:
            made = [index for operator in graph.operators for index in operator.outputs]
            self.ranged = [i for i in (*graph.inputs, *made) if graph.tensors[i].quantization.dtype == "float32"]
        self._not_negative = {operator.outputs[0] for operator in graph.operators if operator.name in _NOT_NEGATIVE} | {
            operator.outputs[0] for operator in summing if operator.options.fusedActivationFunction in (_RELU, _RELU6)
        }

    def runner(self, runtime: str | None) -> TappedRunner:
        """Make a runner for one thread."""
        read = [layer.input.index for layer in self._layers]
        return TappedRunner(self.graph, [*self.ranged, *self.counted, *read, *self.graph.outputs], runtime)

    def record(self, runner: TappedRunner, sample: Sample, held_out: bool) -> _Record:
        """Run one sample; for one held out, record only the ranges."""
        found = runner.run(*sample)
        ranges = {}
        for index in self.ranged:
            values = found[index]
            low = 0.0 if index in self._not_negative else float(values.min(initial=0.0))
            ranges[index] = low, float(values.max(initial=0.0))
        outputs = tuple(found[index].copy() for index in self.graph.outputs)
        if held_out:
            return _Record(ranges, {}, [], outputs)
        counts = {index: Histogram.counts_of(found[index]) for index in self.counted}
        inputs = []
        for layer, positions in zip(self._layers, self._positions, strict=True):
            activation = found[layer.input.index]
            inputs.append((layer.mean_patch(activation[0]), layer.patches(activation, positions)[0]))
        return _Record(ranges, counts, inputs, outputs)


def _run_all(
    plan: _Plan, samples: Sequence[Sample], held_out: Collection[int], runtime: str | None, threads: int
) -> Iterator[_Record]:
    """Run the samples on several threads, each with its own interpreter; yield the records in order."""
    here = local()

    def run(number: int) -> _Record:
        if not hasattr(here, "runner"):  # not as `prepare`, whose error would hide behind that of the pool
            here.runner = plan.runner(runtime)
        return plan.record(here.runner, samples[number], number in held_out)

    return run_in_order(run, range(len(samples)), threads)


def _choose_positions(layer: Layer, number: int, images: int) -> npt.NDArray[np.int64]:
    """Choose the output positions of a layer whose patches are sampled, sorted. They are the same for every image.

    The layer's number among the layers seeds the choice, so that operators without weights do not influence it.

    Over all images, the sample has 512 to 8192 patches, fewer the larger they are: enough to estimate their second
    moments.
    """
    available = layer.output_size()[0] * layer.output_size()[1]
    entries = int(np.prod(layer.kernel)) * layer.channels
    wanted = min(_MOST_ROWS, max(_FEWEST_ROWS, _SAMPLED_ENTRIES // entries))
    count = min(available, -(-wanted // images))
    generator = np.random.default_rng(number)
    return np.sort(generator.choice(available, count, replace=False))


def observe_integers(layer: Layer, activations: npt.NDArray[Any], positions: npt.NDArray[np.int64]) -> Inputs:
    """Record the inputs of an integer layer as real numbers.

    Args:
        layer: a layer of the integer network.
        activations: the layer's input for all images, (images, ...) of the input's integer type.
        positions: the output positions whose patches are sampled.
    """
    quantization = layer.input.quantization
    scale, zero_point = quantization.scale[0], quantization.zero_point[0]
    # Subtract the zero point first, because `mean_patch` pads with 0. Apply the scale last: sums of integers are exact.
    mean = activations.sum(axis=0, dtype=np.int32) / len(activations) - zero_point
    patches = layer.patches(activations, positions, zero_point).reshape(-1, *layer.kernel, layer.channels)
    real = (patches.astype(np.float32) - np.float32(zero_point)) * np.float32(scale)
    return Inputs(layer.mean_patch(mean) * scale, positions, real)
