"""What a network's layers see of the calibration images: means of their input patches, and a sample of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.graphs import Graph, TappedRunner, Tensor
from edgeq.progress import Progress
from edgeq.refinement.layers import Layer
from edgeq.refinement.ranges import count_values

__all__ = ["Inputs", "choose_places", "observe", "observe_integers"]

_SAMPLED_ENTRIES = 1 << 20
"""Numbers kept of each layer's patches, which bounds memory however many images there are."""

_FEWEST_ROWS = 512
_MOST_ROWS = 8192
_CHUNK_BYTES = 1 << 22  # of activations worked on at a time: what a processor's cache holds


@dataclass(frozen=True)
class Inputs:
    """What one layer reads.

    Attributes:
        mean: of all patches of all images, (kernel height, kernel width, channels) float64.
        sample: some patches, (images, places, kernel height, kernel width, channels) float32, or float16 of a
            float network.
    """

    mean: npt.NDArray[np.float64]
    sample: npt.NDArray[Any]


def choose_places(layer: Layer, images: int) -> npt.NDArray[np.int64]:
    """The places of a layer's output whose patches are sampled, of every image the same; sorted.

    So many that the layer's second moments are known: a few thousand patches in all, fewer of large ones.
    """
    available = layer.places()[0] * layer.places()[1]
    entries = int(np.prod(layer.kernel)) * layer.input.shape[-1]
    wanted = min(_MOST_ROWS, max(_FEWEST_ROWS, _SAMPLED_ENTRIES // entries))
    count = min(available, -(-wanted // images))
    generator = np.random.default_rng(layer.operator.index)
    return np.sort(generator.choice(available, count, replace=False))


def observe(
    graph: Graph,
    layers: Sequence[Layer],
    tensors: Sequence[npt.NDArray[Any]],
    places: Sequence[npt.NDArray[np.int64]],
    counted: Sequence[tuple[int, Tensor]],
    runtime: str | None,
    workers: int,
    progress: Progress,
) -> tuple[list[Inputs], list[npt.NDArray[np.int64]]]:
    """Run a float network over the images and keep what its layers see; one pass, whatever their number.

    Args:
        graph: the float network.
        layers: of it.
        tensors: its input, one an image.
        places: to sample, one array a layer.
        counted: activations, by index, whose values to count over the range of an INT8 model's tensor.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        workers: threads.
        progress: called with ("Observing the float network", done, total).

    Returns:
        What each layer sees, and the histogram of each counted activation.
    """
    wanted = [layer.input.index for layer in layers] + [index for index, _ in counted]
    runners = [TappedRunner(graph, wanted, runtime) for _ in range(workers)]

    def look(number: int) -> tuple[list[Any], list[Any], list[Any]]:
        found = runners[number % workers].run(tensors[number])
        means = [layer.mean_patch(found[layer.input.index]) for layer in layers]
        samples = [
            layer.patches(found[layer.input.index], chosen).astype(np.float16)
            for layer, chosen in zip(layers, places, strict=True)
        ]
        return means, samples, [count_values(found[index], tensor) for index, tensor in counted]

    looks: list[tuple[list[Any], list[Any], list[Any]]] = []
    with ThreadPoolExecutor(workers) as pool:
        # A runner serves one image at a time, so the images go in rounds, one a runner.
        for start in range(0, len(tensors), workers):
            looks += pool.map(look, range(start, min(start + workers, len(tensors))))
            progress("Observing the float network", len(looks), len(tensors))
    means, samples, counts = zip(*looks, strict=True)
    inputs = [
        Inputs(np.sum(mean, axis=0) / len(tensors), np.concatenate(sample))
        for mean, sample in zip(zip(*means, strict=True), zip(*samples, strict=True), strict=True)
    ]
    return inputs, [np.sum(count, axis=0) for count in zip(*counts, strict=True)]


def observe_integers(layer: Layer, activations: npt.NDArray[Any], places: npt.NDArray[np.int64]) -> Inputs:
    """What an integer layer sees, as real numbers.

    Args:
        layer: of the integer network.
        activations: its input of all images, (images, ...) as the network has it.
        places: to sample.
    """
    quantization = layer.input.quantization
    scale, zero_point = np.float32(quantization.scale[0]), quantization.zero_point[0]
    chunk = max(1, _CHUNK_BYTES // (4 * activations[0].size))
    mean: Any = 0.0
    samples = []
    for start in range(0, len(activations), chunk):
        # The zero point becomes 0, as padding stands for 0; the scale comes last, so that sums are of integers.
        centred = activations[start : start + chunk].astype(np.float32) - np.float32(zero_point)
        mean = mean + layer.mean_patch(centred) * (len(centred) * float(scale) / len(activations))
        samples.append(layer.patches(centred, places) * scale)
    return Inputs(mean, np.concatenate(samples))
