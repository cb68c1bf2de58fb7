"""Refine an INT8 model layer by layer on the runtime's own integer kernels, and check it on other images."""

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
"""Corrections on top of bias correction, which is always done: ``gain`` corrects the slope of a layer's outputs,
``rounding`` rounds the weights with GPTQ, ``mending`` rounds towards weights that compensate for errors of earlier
layers (QEP, GPTAQ), and ``ranges`` fits the activations' ranges. Files store these names in their provenance."""

_WITH_WEIGHTS = (*WEIGHTED, "BATCH_MATMUL", "TRANSPOSE_CONV")
_CHECK_EVERY = 5
"""One image in this many is kept for checking."""


@dataclass(frozen=True)
class Refinement:
    """The result of refining a model.

    Attributes:
        images: how many images it was refined on.
        checked_on: how many other images it was checked on.
        layers: how many layers were corrected.
        methods: what was applied: ``bias`` and some of `METHODS`; fewer where all together did not help.
        l1_before: mean sum of absolute differences of probabilities from the float model's, in 0..2, on the images
            for checking, before refining.
        l1_after: the same after refining.
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
        """Plain JSON data, with the names of the attributes; `skipped_layers` only where there are any."""
        facts = asdict(self) | {"methods": list(self.methods), "kept": self.kept}
        skipped = facts.pop("skipped_layers")
        return facts | ({"skipped_layers": list(skipped)} if skipped else {})

    @property
    def kept(self) -> bool:
        """Whether refining helped on the images for checking, which took no part in it."""
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

    One image in five is kept for checking. On the others, each integer layer is corrected and then run, so that the
    next layer is corrected on what the corrected layers before it really produce. Only weights, biases, scales and
    zero points change: the content keeps its length, and the model its operators and its speed.

    Args:
        reference: the float model.
        candidate: the INT8 model, made from it by any converter.
        pixels: representative images of the models' input size, (height, width, channels) uint8 each.
        methods: some of `METHODS`; empty corrects the biases alone.
        threads: how many the runtime may use.
        progress: called with (stage, done, total).

    Returns:
        The content of the better INT8 model, either as it was or refined, and the measurements.

    Raises:
        InputError: the models do not correspond, or too few images.
        ModelError: the runtime cannot run a part of a model.
    """
    if len(pixels) < _CHECK_EVERY:
        raise InputError(f"{len(pixels)} images are too few to refine {candidate.path}; take {_CHECK_EVERY} or more")
    checks = pixels[_CHECK_EVERY - 1 :: _CHECK_EVERY]
    images = [image for number, image in enumerate(pixels, start=1) if number % _CHECK_EVERY]
    before = candidate.path.read_bytes()
    integer = Graph(before, candidate.path)
    for operator in integer.operators:  # before pairing, whose message about a float file would mislead
        if operator.name in WEIGHTED:
            _check_integer(integer, operator)
    pair = pair_graphs(read_graph(reference.path), integer)
    for match in pair.operators:
        _check_integer(integer, match.candidate)
    expected = _probabilities(reference, pair.reference.content, checks, threads)

    def distance(content: bytes) -> float:
        """Mean L1 of probabilities from the float model's, on the images for checking; without a background class."""
        found = _probabilities(candidate, content, checks, threads)
        return float(np.abs(found[:, found.shape[1] - expected.shape[1] :] - expected).sum(axis=1).mean())

    l1_before = distance(before)
    layers, unchanged = _split_layers(pair)
    if not layers:
        raise InputError(f"{candidate.path}: has no layer that can be refined")
    observers = range_observers(pair, GraphEditor(integer), unchanged) if "ranges" in methods else {}
    tensors = [reference.tensor(image) for image in images]
    sampled = not {"gain", "rounding"}.isdisjoint(methods)  # correcting biases takes means alone
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
        pair = pair_graphs(pair.reference, Graph(before, candidate.path))  # as it was
    return before, refinement


def _split_layers(pair: GraphPair) -> tuple[list[Layer], dict[int, str]]:
    """The float model's layers to refine by, and what those that cannot be refined are called, by index in INT8."""
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
    """Whether two layers can be refined, and read patches of the same size at as many positions."""
    if not (reference.refinable and candidate.refinable):
        return False
    sizes = [(math.prod(layer.output_size()), layer.kernel, layer.channels) for layer in (reference, candidate)]
    return sizes[0] == sizes[1]


def _fewer_and_fewer(methods: Collection[str]) -> list[tuple[str, ...]]:
    """What to try until something helps: all methods, then without the last one, and so on."""
    wanted = tuple(method for method in METHODS if method in methods)
    return [wanted[:count] for count in range(len(wanted), 0, -1)] or [()]


def _check_integer(graph: Graph, operator: Operator) -> None:
    """Raise an InputError if an operator's activations are not 8-bit integers."""
    types = graph.dtypes((*graph.activations(operator), *operator.outputs))
    if not types <= {"int8", "uint8"}:
        raise InputError(
            f"{graph.path}: is not full-integer INT8: its operator {operator.index} ({operator.name}) works on "
            f"{', '.join(sorted(types))}; refining takes a file from edgeq convert --int8 or the like"
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
    """Correct all layers of the pair's INT8 model on its input tensors, and return its content."""
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
    """Probabilities that `model` with the numbers of `content` gives for images: (images, classes)."""
    changed = model.with_content(content, threads)
    return np.stack([changed.probabilities(changed.invoke(changed.tensor(image))) for image in pixels])
