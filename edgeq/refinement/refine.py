"""Refine an INT8 model layer by layer, with the runtime's own integer kernels, and check it on held-out images."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.graphs import GraphPair, OperatorRunner, pair_graphs
from edgeq.graphs.pairing import WEIGHTED
from edgeq.progress import Progress, no_progress
from edgeq.refinement.activation_store import ActivationStore
from edgeq.refinement.correction import correct_bias, correct_scale, gptq_round
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Inputs, observe, observe_integers
from edgeq.refinement.ranges import RangeObserver, range_observers
from edgeq.runtime import Model
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph, Operator, read_graph

__all__ = ["METHODS", "Refinement", "refine_model"]

METHODS = ("gain", "rounding", "mending", "ranges")
"""Corrections that can be applied in addition to bias correction, which is always applied.

- ``gain``: scale correction, one factor on a layer's weight scales that corrects the slope of its outputs.
- ``rounding``: round the weights with GPTQ.
- ``mending``: error compensation (QEP, GPTAQ). GPTQ then rounds weights that compensate for the errors of earlier
  layers, instead of the float weights. Has an effect only together with ``rounding``.
- ``ranges``: fit the ranges of activations.

Files store these names in their provenance."""

_WITH_WEIGHTS = (*WEIGHTED, "BATCH_MATMUL", "TRANSPOSE_CONV")
_CHECK_EVERY = 5
"""One image in this many is held out, to check the result on."""


@dataclass(frozen=True)
class Refinement:
    """The result of refining a model.

    Attributes:
        images: number of images that the model was refined on.
        checked_on: number of held-out images that the result was checked on.
        layers: number of layers that were corrected.
        methods: the corrections that were applied, ``bias`` first and then some of `METHODS`; fewer than requested if
            all of them together did not help.
        l1_before: L1 distance of the INT8 model's probabilities from the float model's before refining, mean over the
            held-out images; in 0..2.
        l1_after: the same distance after refining.
        kept: whether the refined model was better and is the result.
        skipped_layers: layers that cannot be refined and stay unchanged: index, operator and output of each.
    """

    images: int
    checked_on: int
    layers: int
    methods: tuple[str, ...]
    l1_before: float
    l1_after: float
    skipped_layers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data; without `skipped_layers` if there are none."""
        facts = asdict(self) | {"methods": list(self.methods), "kept": self.kept}
        skipped = facts.pop("skipped_layers")
        return facts | ({"skipped_layers": list(skipped)} if skipped else {})

    @property
    def kept(self) -> bool:
        """Whether the refined model is better than the original on the held-out images."""
        return self.l1_after < self.l1_before


def refine_model(
    reference: Model,
    candidate: Model,
    pixels: Sequence[npt.NDArray[np.uint8]],
    *,
    methods: Collection[str] = METHODS,
    threads: int = 2,
    progress: Progress = no_progress,
) -> tuple[bytes, Refinement]:
    """Refine an INT8 model so that it agrees better with the float model it was made from.

    One image in five is held out for checking. Each integer layer is corrected on the other images and then run on
    them, so that the next layer is corrected on the outputs of the corrected layers before it. Only weights, biases,
    scales and zero points change. The content's length, the operators and the speed stay the same.

    Args:
        reference: the float model.
        candidate: the INT8 model that was made from it, by any converter.
        pixels: representative images of the models' input size, (height, width, channels) uint8 each.
        methods: some of `METHODS`; if empty, only the biases are corrected.
        threads: number of threads that the runtime may use.
        progress: called with (stage, done, total).

    Returns:
        The content of the better INT8 model, refined or unchanged; and the result of refining.

    Raises:
        InputError: the models do not correspond, or there are too few images.
        ModelError: the runtime cannot run a part of a model.
    """
    if len(pixels) < _CHECK_EVERY:
        raise InputError(f"{len(pixels)} images are too few to refine {candidate.path}; take {_CHECK_EVERY} or more")
    checks = pixels[_CHECK_EVERY - 1 :: _CHECK_EVERY]
    images = [image for number, image in enumerate(pixels, start=1) if number % _CHECK_EVERY]
    before = candidate.path.read_bytes()
    integer = Graph(before, candidate.path)
    for operator in integer.operators:  # before pairing, whose error message for a float file would mislead
        if operator.name in WEIGHTED:
            _check_integer(integer, operator)
    pair = pair_graphs(read_graph(reference.path), integer)
    for match in pair.operators:
        _check_integer(integer, match.candidate)
    expected = _probabilities(reference, pair.reference.content, checks, threads)

    def distance(content: bytes) -> float:
        """Return the mean L1 distance from the float model's probabilities, over the held-out images.

        A background class is ignored.
        """
        found = _probabilities(candidate, content, checks, threads)
        return float(np.abs(found[:, found.shape[1] - expected.shape[1] :] - expected).sum(axis=1).mean())

    l1_before = distance(before)
    layers, unchanged = _split_layers(pair)
    if not layers:
        raise InputError(f"{candidate.path}: has no layer that can be refined")
    observers = range_observers(pair, GraphEditor(integer), unchanged) if "ranges" in methods else {}
    tensors = [reference.tensor(image) for image in images]
    sampled = not {"gain", "rounding"}.isdisjoint(methods)  # bias correction needs the mean patches only
    inputs = observe(pair.reference, layers, tensors, sampled, observers, reference.runtime, threads, progress)
    tensors = [candidate.tensor(image) for image in images]
    for tried in _fewer_and_fewer(methods):
        fitted = list(observers.values()) if "ranges" in tried else []
        after = _correct(pair, inputs, fitted, tensors, tried, candidate.runtime, threads, progress)
        progress("Checking", 0, 1)
        refinement = Refinement(
            images=len(images),
            checked_on=len(checks),
            layers=len(layers),
            methods=("bias", *tried),
            l1_before=l1_before,
            l1_after=distance(after),
            skipped_layers=tuple(unchanged.values()),
        )
        progress("Checking", 1, 1)
        if refinement.kept:
            return after, refinement
        pair = pair_graphs(pair.reference, Graph(before, candidate.path))  # start again from the original
    return before, refinement


def _split_layers(pair: GraphPair) -> tuple[list[Layer], dict[int, str]]:
    """Split the weighted layers into those that can be refined and those that cannot.

    Returns:
        The float model's layers whose INT8 counterparts can be refined; and a description of each layer that cannot,
        by its operator's index in the INT8 model.
    """
    layers: list[Layer] = []
    unchanged: dict[int, str] = {}
    for match in pair.operators:
        reference, candidate = Layer(pair.reference, match.reference), Layer(pair.candidate, match.candidate)
        operator = match.candidate
        if operator.name in WEIGHTED and _are_alike(reference, candidate):
            layers.append(reference)
        elif operator.name in _WITH_WEIGHTS and set(operator.inputs[:2]) - set(pair.candidate.activations(operator)):
            name = candidate.output.name.partition(";")[0]
            unchanged[operator.index] = f"{operator.index} {operator.name} {name}".rstrip()
    return layers, unchanged


def _are_alike(reference: Layer, candidate: Layer) -> bool:
    """Return whether two layers can be refined, and have patches of the same size and the same number of positions."""
    if not (reference.refinable and candidate.refinable):
        return False
    sizes = [(math.prod(layer.output_size()), layer.kernel, layer.channels) for layer in (reference, candidate)]
    return sizes[0] == sizes[1]


def _fewer_and_fewer(methods: Collection[str]) -> list[tuple[str, ...]]:
    """List what to try until something helps: all methods, then all except the last, and so on."""
    wanted = tuple(method for method in METHODS if method in methods)
    return [wanted[:count] for count in range(len(wanted), 0, -1)] or [()]


def _check_integer(graph: Graph, operator: Operator) -> None:
    """Raise an InputError if an operator's activations are not 8-bit integers."""
    types = graph.dtypes((*graph.activations(operator), *operator.outputs))
    if not types <= {"int8", "uint8"}:
        raise InputError(
            f"{graph.path}: is not full-integer INT8: its operator {operator.index} ({operator.name}) works on "
            f"{', '.join(sorted(types))}; give a full-integer file, such as edgeq convert --int8 writes"
        )


def _correct(
    pair: GraphPair,
    inputs: Mapping[int, Inputs],
    observers: Sequence[RangeObserver],
    tensors: Sequence[npt.NDArray[Any]],
    methods: Collection[str],
    runtime: str,
    threads: int,
    progress: Progress,
) -> bytes:
    """Correct all layers of the pair's INT8 model on its input tensors, and return the corrected model's content."""
    graph = pair.candidate
    editor = GraphEditor(graph)
    for observer in observers:
        observer.fit(editor)
    matches = {match.candidate.index: match for match in pair.operators if match.reference.index in inputs}
    store = ActivationStore(graph, np.concatenate(tensors))
    for done, operator in enumerate(graph.operators, start=1):
        match = matches.get(operator.index)
        if match is not None:
            layer, counterpart = Layer(graph, operator), Layer(pair.reference, match.reference)
            expected = inputs[match.reference.index]
            seen = observe_integers(layer, store.values[layer.input.index], expected.positions)
            work = editor, layer, counterpart, seen, expected, match.extra_channels
            if "rounding" in methods:
                gptq_round(*work, compensate="mending" in methods)
            if "gain" in methods:
                correct_scale(*work)
            correct_bias(*work)
        store.run(OperatorRunner(graph, operator, runtime, threads), operator.outputs[0])
        progress("Refining", done, len(graph.operators))
    return editor.content


def _probabilities(
    model: Model, content: bytes, pixels: Sequence[npt.NDArray[np.uint8]], threads: int
) -> npt.NDArray[np.float64]:
    """Return the probabilities of images, (images, classes) float64, from `content`, a version of `model`."""
    changed = model.with_content(content, threads)
    return np.stack([changed.probabilities(changed.invoke(changed.tensor(image))) for image in pixels])
