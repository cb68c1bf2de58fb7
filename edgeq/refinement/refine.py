"""Refining an INT8 model: layer after layer, on the runtime's own integer kernels, then checked on images apart."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.graphs import GraphPair, OperatorRunner, pair_graphs
from edgeq.graphs.pairing import WEIGHTED
from edgeq.progress import Progress, no_progress
from edgeq.refinement.correction import correct_bias, correct_gain, round_anew
from edgeq.refinement.flow import Flow
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Inputs, observe, observe_integers
from edgeq.refinement.ranges import Spread, adjustable
from edgeq.runtime import Model
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph, Operator, read_graph

__all__ = ["METHODS", "Refinement", "refine_model"]

METHODS = ("gain", "rounding", "mending", "ranges")
"""What goes beyond correcting biases, which is always done: layers brought back to full strength; weights rounded
by GPTQ, towards weights that mend what earlier layers got wrong; ranges that suit the images better."""

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


def refine_model(
    reference: Model,
    candidate: Model,
    pixels: Sequence[npt.NDArray[np.uint8]],
    *,
    methods: Collection[str] = METHODS,
    threads: int = 2,
    progress: Progress = no_progress,
) -> tuple[bytes, Refinement]:
    """Refine an INT8 model so that it agrees with the float model it was made from.

    One image in five is kept apart. Over the others, each integer layer is corrected and then run, so that the
    next one sees what the corrected layers before it really produce. Only numbers change:
    weights, biases, scales and zero points. The file keeps its length, operators and speed.

    Args:
        reference: the float model.
        candidate: the INT8 model, made from it by whichever tool.
        pixels: representative images as the models see them, (height, width, channels) uint8 each.
        methods: some of `METHODS`; none corrects the biases alone.
        threads: how many the runtime may use.
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
    pair = pair_graphs(read_graph(reference.path), integer)
    for match in pair.operators:
        _check_integer(integer, match.candidate)
    expected = _probabilities(reference, pair.reference.content, checks, threads)

    def distance(content: bytes) -> float:
        """Mean L1 of probabilities from the float model's, on the images for checking; without a background class."""
        found = _probabilities(candidate, content, checks, threads)
        return float(np.abs(found[:, found.shape[1] - expected.shape[1] :] - expected).sum(axis=1).mean())

    l1_before = distance(before)
    layers = [Layer(pair.reference, match.reference) for match in pair.operators if match.candidate.name in WEIGHTED]
    spreads = adjustable(pair, GraphEditor(integer)) if "ranges" in methods else {}
    tensors = [reference.tensor(image) for image in images]
    sampled = not {"gain", "rounding"}.isdisjoint(methods)  # correcting biases takes means alone
    inputs = observe(pair.reference, layers, tensors, sampled, spreads, reference.runtime, threads, progress)
    tensors = [candidate.tensor(image) for image in images]
    for tried in _fewer_and_fewer(methods):
        fitted = list(spreads.values()) if "ranges" in tried else []
        after = _correct(pair, inputs, fitted, tensors, tried, candidate.runtime, threads, progress)
        progress("Checking", 0, 1)
        refinement = Refinement(len(images), len(checks), len(layers), ("bias", *tried), l1_before, distance(after))
        progress("Checking", 1, 1)
        if refinement.kept:
            return after, refinement
        pair = pair_graphs(pair.reference, Graph(before, candidate.path))  # as it was
    return before, refinement


def _fewer_and_fewer(methods: Collection[str]) -> list[tuple[str, ...]]:
    """What to try, until something helps: all methods, then without the last of them, and so on."""
    wanted = tuple(method for method in METHODS if method in methods)
    return [wanted[:count] for count in range(len(wanted), 0, -1)] or [()]


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
    inputs: Mapping[int, Inputs],
    spreads: Sequence[Spread],
    tensors: Sequence[npt.NDArray[Any]],
    methods: Collection[str],
    runtime: str,
    threads: int,
    progress: Progress,
) -> bytes:
    """Correct all layers of the pair's INT8 model, of which `tensors` are the inputs: its content."""
    graph = pair.candidate
    editor = GraphEditor(graph)
    for spread in spreads:
        spread.fit(editor)
    weighted = {p.candidate.index: p for p in pair.operators if p.candidate.name in WEIGHTED}
    flow = Flow(graph, np.concatenate(tensors))
    for done, operator in enumerate(graph.operators, start=1):
        match = weighted.get(operator.index)
        if match is not None:
            layer, counterpart = Layer(graph, operator), Layer(pair.reference, match.reference)
            expected = inputs[match.reference.index]
            seen = observe_integers(layer, flow.values[layer.input.index], expected.places)
            work = editor, layer, counterpart, seen, expected, match.extra_channels
            if "rounding" in methods:
                round_anew(*work, mending="mending" in methods)
            if "gain" in methods:
                correct_gain(*work)
            correct_bias(*work)
        flow.run(OperatorRunner(graph, operator, runtime, threads), operator.outputs[0])
        progress("Refining", done, len(graph.operators))
    return editor.content


def _probabilities(
    model: Model, content: bytes, pixels: Sequence[npt.NDArray[np.uint8]], threads: int
) -> npt.NDArray[np.float64]:
    """What a model with the numbers of `content` says of images: (images, classes)."""
    changed = model.with_content(content, threads)
    return np.stack([changed.probabilities(changed.invoke(changed.tensor(image))) for image in pixels])
