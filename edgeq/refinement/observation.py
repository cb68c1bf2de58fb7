"""Observe the inputs of a network's layers on the calibration images: their mean patches, and samples of patches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graphs import TappedRunner
from edgeq.progress import Progress
from edgeq.refinement.layers import Layer
from edgeq.refinement.ranges import RangeObserver
from edgeq.tflite.graph import Graph

__all__ = ["Inputs", "observe", "observe_integers"]

_SAMPLED_ENTRIES = 1 << 20
"""Number of values to sample per layer, which limits memory for any number of images."""

_FEWEST_ROWS = 512
_MOST_ROWS = 8192


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


def _choose_positions(layer: Layer, images: int) -> npt.NDArray[np.int64]:
    """Choose the output positions of a layer whose patches are sampled, sorted. They are the same for every image.

    Over all images, the sample has 512 to 8192 patches, fewer the larger they are: enough to estimate their second
    moments.
    """
    available = layer.output_size()[0] * layer.output_size()[1]
    entries = int(np.prod(layer.kernel)) * layer.channels
    wanted = min(_MOST_ROWS, max(_FEWEST_ROWS, _SAMPLED_ENTRIES // entries))
    count = min(available, -(-wanted // images))
    generator = np.random.default_rng(layer.operator.index)
    return np.sort(generator.choice(available, count, replace=False))


def observe(
    graph: Graph,
    layers: Sequence[Layer],
    tensors: Sequence[npt.NDArray[Any]],
    sampled: bool,
    observers: Mapping[int, RangeObserver],
    runtime: str | None,
    threads: int,
    progress: Progress,
) -> dict[int, Inputs]:
    """Run a float network on each image and record the inputs of its layers.

    Args:
        graph: the float network.
        layers: the layers to observe.
        tensors: input tensors, one per image.
        sampled: whether to keep a sample of the patches as well as their mean.
        observers: range observers, by index of the activation; each gets its activation's values for every image.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        threads: number of threads that the kernels may use.
        progress: called with ("Observing the float network", done, total).

    Returns:
        The inputs of each layer, by the index of the layer's operator.
    """
    positions = [_choose_positions(layer, len(tensors)) if sampled else np.zeros(0, np.int64) for layer in layers]
    wanted = [layer.input.index for layer in layers] + list(observers)
    runner = TappedRunner(graph, wanted, runtime, threads)
    means: list[Any] = [0.0 for _ in layers]
    samples: list[list[Any]] = [[] for _ in layers]
    for done, tensor in enumerate(tensors, start=1):
        found = runner.run(tensor)
        for number, layer in enumerate(layers):
            activation = found[layer.input.index]
            means[number] = means[number] + layer.mean_patch(activation[0])
            samples[number].append(layer.patches(activation, positions[number])[0])
        for index, observer in observers.items():
            observer.add(found[index])
        del found, activation  # views of the runner's memory: it cannot run again while they exist
        progress("Observing the float network", done, len(tensors))
    return {
        layer.operator.index: Inputs(mean / len(tensors), chosen, np.concatenate(sample))
        for layer, mean, chosen, sample in zip(layers, means, positions, samples, strict=True)
    }


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
