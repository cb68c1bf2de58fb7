"""Refine an INT8 model layer by layer, with the runtime's own integer kernels, and drop the result if it is worse."""

from __future__ import annotations

import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.graphs import GraphPair, OperatorPair, OperatorRunner, pair_graphs
from edgeq.graphs.pairing import WEIGHTED
from edgeq.progress import Progress, no_progress
from edgeq.refinement.activation_store import ActivationStore
from edgeq.refinement.check import FEWEST_SAMPLES, Check, Refinable, held_out
from edgeq.refinement.correction import correct_bias, correct_scale, gptq_round, make_room_for_bias, rescale_biases
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Observation, observe, observe_integers
from edgeq.refinement.ranges import fit_ranges, write_ranges
from edgeq.refinement.result import METHODS, Refinement
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph, Operator, read_graph
from edgeq.threads import one_blas_thread

__all__ = ["refine_model"]

_WITH_WEIGHTS = (*WEIGHTED, "BATCH_MATMUL", "TRANSPOSE_CONV")
_EIGHT_BITS = {"int8", "uint8"}


@one_blas_thread
def refine_model(
    reference: Refinable,
    candidate: Refinable,
    samples: Sequence[Any],
    *,
    methods: Collection[str] = METHODS,
    observation: Observation | None = None,
    threads: int = 2,
    progress: Progress = no_progress,
) -> tuple[bytes, Refinement]:
    """Refine an INT8 model so that it agrees better with the float model it was made from.

    One sample in five is held out from refining. Each integer layer is corrected on the other samples and then run on
    them, so that the next layer is corrected on the outputs of the corrected layers before it. Only weights, biases,
    scales and zero points change: the file's length, the operators and the speed stay the same.

    Args:
        reference: the float model.
        candidate: the INT8 model that was made from it, by any converter.
        samples: representative data for the models: for image classifiers images of the models' input size, (height,
            width, channels) uint8 each; for other models a tuple of float arrays each, one per input.
        methods: some of `METHODS`; if empty, only the biases are corrected.
        observation: what the float model computes on the samples, with those held out that `held_out` names; None to
            observe it now.
        threads: number of threads that the runtime may use.
        progress: called with (stage, done, total).

    Returns:
        The content of the better INT8 model, refined or unchanged; and the result of refining.

    Raises:
        InputError: the models do not correspond, or there are too few samples.
        ModelError: the runtime cannot run a part of a model.
    """
    checked = held_out(len(samples))
    if not checked:
        raise InputError(f"{len(samples)} images are too few to refine {candidate.path}; take {FEWEST_SAMPLES} or more")
    before = candidate.path.read_bytes()
    graph = observation.graph if observation else read_graph(reference.path)
    pair = _paired(graph, Graph(before, candidate.path))
    layers, unchanged = _split_layers(pair)
    if not layers:
        raise InputError(f"{candidate.path}: has no layer that can be refined")
    if observation is None:
        observation = observe(
            pair.reference,
            [reference.tensors(sample) for sample in samples],
            held_out=checked,
            patches=not {"gain", "rounding"}.isdisjoint(methods),  # bias correction needs the mean patches only
            runtime=reference.runtime,
            threads=threads,
            progress=progress,
        )
    expected = [reference.meaning(outputs) for outputs in observation.outputs]
    tensors = [candidate.tensors(sample) for sample in samples]
    check = Check(candidate, expected, tensors, threads)
    errors_before = check.errors(before)
    if "ranges" in methods and not _narrowing_helps(pair, observation, unchanged, check):
        methods = [method for method in methods if method != "ranges"]
    fitted = [sample for number, sample in enumerate(tensors) if number not in checked]
    inputs = [np.concatenate(arrays) for arrays in zip(*fitted, strict=True)]
    for tried in _fewer_and_fewer(methods):
        correction = _Correction(pair, observation, layers, tried, candidate.runtime, threads, progress)
        after = correction.run(inputs, unchanged)
        progress("Checking", 0, 1)
        refinement = Refinement(
            images=len(fitted),
            checked_on=len(checked),
            layers=len(layers),
            methods=("bias", *tried),
            error_before=errors_before[0],
            error_after=(errors_after := check.errors(after))[0],
            fitted_error_before=errors_before[1],
            fitted_error_after=errors_after[1],
            measure=candidate.measure,
            skipped_layers=tuple(unchanged.values()),
        )
        progress("Checking", 1, 1)
        if refinement.kept:
            return after, refinement
        pair = pair_graphs(pair.reference, Graph(before, candidate.path))  # start again from the original
    return before, refinement


def _narrowing_helps(pair: GraphPair, observation: Observation, unchanged: Collection[int], check: Check) -> bool:
    """Return whether narrower ranges alone reduce the error: an image beyond them may cost more than finer steps gain.

    Both versions have the ranges widened that the images exceed.
    """
    widened, narrowed = (_with_ranges(pair, observation, unchanged, narrow) for narrow in (False, True))
    return narrowed == widened or sum(check.errors(narrowed, trial=True)) <= sum(check.errors(widened, trial=True))


def _with_ranges(pair: GraphPair, observation: Observation, unchanged: Collection[int], narrowing: bool) -> bytes:
    """Return the INT8 model with other ranges and nothing else changed."""
    before = pair.candidate
    ranges = fit_ranges(pair, observation, GraphEditor(before), unchanged, narrowing=narrowing)
    if not ranges:
        return before.content
    editor = GraphEditor(Graph(before.content, before.path))
    write_ranges(editor, ranges)
    rescale_biases(editor, before)
    return editor.content


def _paired(reference: Graph, integer: Graph) -> GraphPair:
    """Pair the graphs of both models.

    Raises:
        InputError: the models do not correspond, or the second is not INT8.
    """
    kinds = [_activation_types(integer, operator) for operator in integer.operators if operator.name in WEIGHTED]
    if kinds and not any(types <= _EIGHT_BITS for types in kinds):  # before pairing, whose message would mislead
        first = next(operator for operator in integer.operators if operator.name in WEIGHTED)
        raise InputError(
            f"{integer.path}: is not INT8: its operator {first.index} ({first.name}) works on "
            f"{', '.join(sorted(_activation_types(integer, first)))}; give an INT8 file, such as edgeq convert --int8 "
            "writes"
        )
    return pair_graphs(reference, integer)


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
        if not _activation_types(pair.candidate, operator) <= _EIGHT_BITS:
            continue  # in float on purpose, or int32 in both models
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


def _activation_types(graph: Graph, operator: Operator) -> set[str]:
    """Return the types of an operator's activations and outputs."""
    return graph.dtypes((*graph.activations(operator), *operator.outputs))


@dataclass(frozen=True)
class _Correction:
    """Corrects all layers of an INT8 model.

    Attributes:
        pair: the graphs of both models.
        observation: what the float model computed.
        layers: the float model's layers whose counterparts can be corrected.
        methods: the corrections to apply beside that of the bias.
        runtime: the runtime that runs the INT8 model's operators.
        threads: number of threads that it may use.
        progress: called with ("Refining", done, total).
    """

    pair: GraphPair
    observation: Observation
    layers: Sequence[Layer]
    methods: Collection[str]
    runtime: str
    threads: int
    progress: Progress

    def run(self, inputs: Sequence[npt.NDArray[Any]], unchanged: Collection[int]) -> bytes:
        """Correct the model on its input tensors, and return its new content.

        Args:
            inputs: one array per input of the model with its values for all samples.
            unchanged: indices of the operators whose biases cannot be rescaled.
        """
        graph = self.pair.candidate
        editor = GraphEditor(graph)
        if self.methods:
            narrowing = "ranges" in self.methods
            write_ranges(editor, fit_ranges(self.pair, self.observation, editor, unchanged, narrowing=narrowing))
        corrected = {layer.operator.index for layer in self.layers}
        matches = {m.candidate.index: m for m in self.pair.operators if m.reference.index in corrected}
        store = ActivationStore(graph, inputs)
        for done, operator in enumerate(graph.operators, start=1):
            if operator.index in matches:
                self._correct(editor, matches[operator.index], store)
            store.run(OperatorRunner(graph, operator, self.runtime, self.threads), operator.outputs)
            self.progress("Refining", done, len(graph.operators))
        return editor.content

    def _correct(self, editor: GraphEditor, match: OperatorPair, store: ActivationStore) -> None:
        """Correct one layer on the integer model's activations before it."""
        layer, counterpart = Layer(editor.graph, match.candidate), Layer(self.pair.reference, match.reference)
        expected = self.observation.inputs[match.reference.index]
        seen = observe_integers(layer, store.values[layer.input.index], expected.positions)
        work = editor, layer, counterpart, seen, expected, match.extra_channels
        make_room_for_bias(editor, layer, counterpart, match.extra_channels)
        if "rounding" in self.methods:
            gptq_round(*work, compensate="compensation" in self.methods, threads=self.threads)
        if "gain" in self.methods:
            correct_scale(*work, threads=self.threads)
        correct_bias(*work)
