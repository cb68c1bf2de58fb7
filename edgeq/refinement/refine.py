"""Refining an INT8 model: layer after layer, on the runtime's own integer kernels, then checked on images apart."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.graphs import Graph, GraphPair, Operator, OperatorRunner, TappedRunner, pair_graphs
from edgeq.graphs.editing import GraphEditor
from edgeq.graphs.pairing import WEIGHTED
from edgeq.progress import Progress, no_progress
from edgeq.refinement.correction import correct_bias, correct_weights
from edgeq.refinement.flow import Flow
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import choose_places, observe, observe_integers
from edgeq.refinement.ranges import narrow_range, narrowable
from edgeq.runtime import Model

__all__ = ["METHODS", "Refinement", "refine"]

METHODS = ("rounding", "mending", "ranges")
"""What goes beyond correcting biases, which is always done: weights rounded by GPTQ, towards weights that mend what
earlier layers got wrong, and narrower ranges of activations that nothing clamps."""

_CHECK_EVERY = 5
"""One image in so many is kept for checking."""


@dataclass(frozen=True)
class Refinement:
    """What refining a model came to.

    Attributes:
        images: how many it was refined on.
        checked_on: how many others it was checked on.
        layers: how many layers were corrected.
        methods: what was applied: ``bias`` and some of `METHODS`; where all of them did not help, fewer were tried.
        l1_before: mean sum of absolute differences of probabilities from the float model's, on the images for
            checking, before; in 0..2.
        l1_after: the same after.
        kept: whether the refined model was the better one, and so is the result.
    """

    images: int
    checked_on: int
    layers: int
    methods: tuple[str, ...]
    l1_before: float
    l1_after: float

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the names of the attributes."""
        return asdict(self) | {"methods": list(self.methods), "kept": self.kept}

    @property
    def kept(self) -> bool:
        """Whether refining helped on images that it had not seen."""
        return self.l1_after < self.l1_before


def refine(
    reference: Model,
    candidate: Model,
    pixels: Sequence[npt.NDArray[np.uint8]],
    *,
    methods: Collection[str] = METHODS,
    workers: int = 2,
    progress: Progress = no_progress,
) -> tuple[bytes, Refinement]:
    """Refine an INT8 model so that it agrees with the float model it was made from.

    One image in five is kept apart. Over the others, each integer layer is corrected and then run, so that the
    next one sees what the corrected layers before it really produce. Each operator runs once. Only numbers change:
    weights, biases, and scales of activations that nothing clamps. The file keeps its length, operators and speed.

    Args:
        reference: the float model.
        candidate: the INT8 model, made from it by whichever tool.
        pixels: representative images as the models see them, (height, width, channels) uint8 each.
        methods: some of `METHODS`; none corrects the biases alone.
        workers: threads.
        progress: called with (stage, done, total).

    Returns:
        The content of the better one of the two INT8 models, before and after, and what came of it.

    Raises:
        InputError: the models do not correspond, or too few images.
        ModelError: a runtime refuses a part of a model.
    """
    if len(pixels) < _CHECK_EVERY:
        raise InputError(f"{len(pixels)} images are too few to refine {candidate.path}; take {_CHECK_EVERY} or more")
    checks = pixels[_CHECK_EVERY - 1 :: _CHECK_EVERY]
    images = [image for number, image in enumerate(pixels, start=1) if number % _CHECK_EVERY]
    before = candidate.path.read_bytes()
    integer = Graph(before, candidate.path)
    for operator in integer.operators:  # before pairing, which would find fault with a float file for other reasons
        if operator.name in WEIGHTED:
            _check_integer(integer, operator)
    float_graph = Graph(reference.path.read_bytes(), reference.path)
    for match in pair_graphs(float_graph, integer).operators:
        _check_integer(integer, match.candidate)
    expected = _probabilities(reference, float_graph, checks)

    def distance(content: bytes) -> float:
        """Mean L1 of probabilities from the float model's, on the images for checking; without a background class."""
        found = _probabilities(candidate, Graph(content, candidate.path), checks)
        return float(np.abs(found[:, found.shape[1] - expected.shape[1] :] - expected).sum(axis=1).mean())

    l1_before = distance(before)
    for tried in _fewer_and_fewer(methods):
        pair = pair_graphs(float_graph, Graph(before, candidate.path))
        layers, after = _correct(pair, reference, candidate, images, tried, workers, progress)
        progress("Checking", 0, 1)
        refinement = Refinement(len(images), len(checks), layers, ("bias", *tried), l1_before, distance(after))
        progress("Checking", 1, 1)
        if refinement.kept:
            return after, refinement
    return before, refinement


def _fewer_and_fewer(methods: Collection[str]) -> list[tuple[str, ...]]:
    """What to try, until something helps: all methods, without ranges, only biases."""
    wanted = [tuple(m for m in METHODS if m in methods), tuple(m for m in METHODS[:2] if m in methods), ()]
    return list(dict.fromkeys(wanted))


def _check_integer(graph: Graph, operator: Operator) -> None:
    """The INT8 model's operator is integer."""
    types = {graph.tensors[index].quantization.dtype for index in (*graph.activations(operator), *operator.outputs)}
    if not types <= {"int8", "uint8"}:
        raise InputError(
            f"{graph.path}: is not full-integer INT8: its operator {operator.index} ({operator.name}) works on "
            f"{', '.join(sorted(types))}; refining takes a file from edgeq convert --int8 or the like"
        )


def _correct(
    pair: GraphPair,
    reference: Model,
    candidate: Model,
    images: Sequence[npt.NDArray[np.uint8]],
    methods: Collection[str],
    workers: int,
    progress: Progress,
) -> tuple[int, bytes]:
    """Correct all layers: their number, and the INT8 model's content."""
    weighted = {p.candidate.index: p for p in pair.operators if p.candidate.name in WEIGHTED}
    layers = {index: Layer(pair.reference, p.reference) for index, p in weighted.items()}
    nowhere = np.zeros(0, np.int64)  # correcting biases takes means alone
    places = {
        index: choose_places(layer, len(images)) if "rounding" in methods else nowhere
        for index, layer in layers.items()
    }
    tensors = [reference.tensor(image) for image in images]
    editor = GraphEditor(pair.candidate)
    narrowed = narrowable(pair, editor) if "ranges" in methods else []
    counted = [(index, pair.candidate.tensors[other]) for index, other in narrowed]
    observed, counts = observe(
        pair.reference,
        list(layers.values()),
        tensors,
        list(places.values()),
        counted,
        reference.runtime,
        workers,
        progress,
    )
    expected = dict(zip(layers, observed, strict=True))
    for (_, index), count in zip(narrowed, counts, strict=True):
        narrow_range(editor, index, count)
    flow = Flow(pair.candidate, np.concatenate([candidate.tensor(image) for image in images]))
    for done, operator in enumerate(pair.candidate.operators, start=1):
        match = weighted.get(operator.index)
        if match is not None:
            layer, counterpart = Layer(pair.candidate, operator), layers[operator.index]
            seen = observe_integers(layer, flow.values[layer.input.index], places[operator.index])
            work = editor, layer, counterpart, seen, expected[operator.index], match.extra_channels
            if "rounding" in methods:
                correct_weights(*work, mending="mending" in methods)
            correct_bias(*work)
        flow.run(OperatorRunner(pair.candidate, operator, candidate.runtime, workers), operator.outputs[0])
        progress("Refining", done, len(pair.candidate.operators))
    return len(weighted), editor.content


def _probabilities(model: Model, graph: Graph, pixels: Sequence[npt.NDArray[np.uint8]]) -> npt.NDArray[np.float64]:
    """What a graph that takes and gives what `model` does says of images: (images, classes)."""
    runner = TappedRunner(graph, graph.outputs, model.runtime)
    (output,) = graph.outputs
    return np.stack([model.probabilities(runner.run(model.tensor(image))[output]) for image in pixels])
