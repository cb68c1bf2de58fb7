"""Choose the operators that stay in float in an INT8 file: named by the user, not supported, or where INT8 fails."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from functools import cache

from edgeq.errors import InputError
from edgeq.graphs import GraphPair, pair_graphs
from edgeq.progress import Progress
from edgeq.tflite.graph import Graph, Operator

__all__ = ["AUTO", "UNSUPPORTED", "KeepFloat", "KeptFloat", "Mixed", "float_operators", "make_mixed"]

AUTO, UNSUPPORTED = "auto", "unsupported"
_BOUNDARIES = ("QUANTIZE", "DEQUANTIZE")
_CANDIDATES = 4  # operators to try in each step, worst first
_MOST_STEPS = 8
_LEAST_GAIN = 0.05
"""A step must reduce the error by this share, and a second operator must reduce it by this share more than one."""


@dataclass(frozen=True)
class KeptFloat:
    """Operators that were left in float together.

    Attributes:
        operators: their numbers, types and outputs, for example ``12 CONV_2D block_3_expand_relu``.
        error_before: mean L1 distance of the probabilities on the held-out calibration images before this step.
        error_after: the same with these operators in float as well.
        latency_ms: added time of an inference on this machine.
        size_bytes: added size of the file.
    """

    operators: tuple[str, ...]
    error_before: float
    error_after: float
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class KeepFloat:
    """Which operators to leave in float.

    Attributes:
        operators: numbers or names, as ``edgeq compare --layers`` prints them; or only ``auto`` or ``unsupported``.
        min_agreement: for ``auto``, the share of the held-out calibration images on which the top-1 class must be that
            of the float model, in [0, 1].
    """

    operators: tuple[str, ...] = ()
    min_agreement: float = 0.99

    def __post_init__(self) -> None:
        for word in (AUTO, UNSUPPORTED):
            if word in self.operators and len(self.operators) > 1:
                raise InputError(f"--keep-float {word}: cannot be combined with other operators")


@dataclass(frozen=True)
class Mixed:
    """An INT8 flatbuffer with operators in float.

    Attributes:
        content: the flatbuffer.
        names: names of the outputs of the operators that are in float.
        steps: what ``auto`` chose, step by step.
    """

    content: bytes
    names: frozenset[str] = frozenset()
    steps: tuple[KeptFloat, ...] = ()


@dataclass(frozen=True)
class Trial:
    """A file in memory and what was measured with it.

    Attributes:
        content: the file.
        error: mean L1 distance of the probabilities from the float model's, on the held-out calibration images.
        latency_ms: time of an inference on this machine.
    """

    content: bytes
    error: float
    latency_ms: float


@dataclass(frozen=True)
class Measures:
    """What choosing operators automatically needs to know of a file.

    Attributes:
        attempt: writes and measures a file with certain content.
        agreement: returns the share of the held-out images on which the file with certain content, refined, agrees.
        ranked: returns operators by their index in the full-integer model, those where INT8 fails most first.
    """

    attempt: Callable[[bytes], Trial]
    agreement: Callable[[bytes], float]
    ranked: Callable[[bytes, GraphPair], list[int]]


def make_mixed(
    wanted: KeepFloat,
    reference: Graph,
    quantize: Callable[[frozenset[int]], bytes],
    measures: Measures,
    progress: Progress,
) -> Mixed:
    """Quantize a float graph to INT8, except some operators.

    Args:
        wanted: which operators to leave in float.
        reference: the float graph.
        quantize: quantizes it, with operators left in float that are given by their index.
        measures: see `Measures`; only for ``auto``.
        progress: called with ("Choosing float operators", done, total).

    Raises:
        InputError: there is no operator of a given name.
    """
    quantized = cache(quantize)  # the last trial is the result, and the first one is full-integer
    full = quantized(frozenset())
    graph = Graph(full, reference.path)
    steps: tuple[KeptFloat, ...] = ()
    if wanted.operators == (UNSUPPORTED,):
        kept, content = float_operators(reference, graph), full
    elif wanted.operators == (AUTO,):
        pair = pair_graphs(reference, graph)
        order = {match.candidate.index: match.reference.index for match in pair.operators}
        ranked = [order[index] for index in measures.ranked(full, pair)]
        kept, steps = choose_operators(
            reference,
            pair,
            ranked,
            lambda operators: measures.attempt(quantized(frozenset(operators))),
            lambda operators: measures.agreement(quantized(frozenset(operators))) >= wanted.min_agreement,
            progress,
        )
        content = quantized(frozenset(kept))
    else:
        kept = named_operators(wanted.operators, reference, graph)
        content = quantized(frozenset(kept))
    names = frozenset(reference.tensors[i].name for index in kept for i in reference.operators[index].outputs)
    return Mixed(content, names, steps)


def float_operators(reference: Graph, quantized: Graph) -> set[int]:
    """Return the operators that a quantizer left in float, by their index in the float model."""
    made = {tensor.name: index for index, tensor in enumerate(reference.tensors)}
    found = set()
    for operator in quantized.operators:
        if operator.name in _BOUNDARIES or "float32" not in quantized.dtypes((*operator.inputs, *operator.outputs)):
            continue
        index = made.get(quantized.tensors[operator.outputs[0]].name)
        if index in reference.producers:
            found.add(reference.producers[index].index)
    return found


def named_operators(names: Sequence[str], reference: Graph, quantized: Graph) -> set[int]:
    """Return the operators that the user named, by their index in the float model.

    Args:
        names: operators by number or name, as ``edgeq compare --layers`` prints them.
        reference: the float model.
        quantized: the full-integer model, in which the numbers count.

    Raises:
        InputError: there is no such operator.
    """
    pair = pair_graphs(reference, quantized)
    by_number = {str(match.candidate.index): match.reference.index for match in pair.operators}
    by_name = {
        reference.tensors[index].name: operator.index for operator in reference.operators for index in operator.outputs
    }
    found = set()
    for name in names:
        index = by_number.get(name, by_name.get(name))
        if index is None:
            raise InputError(
                f"--keep-float {name}: {reference.path} has no such operator; give the number or the name of one that "
                "edgeq compare --layers prints"
            )
        found.add(index)
    return found


def choose_operators(
    reference: Graph,
    pair: GraphPair,
    ranked: Sequence[int],
    attempt: Callable[[Collection[int]], Trial],
    reached: Callable[[Collection[int]], bool],
    progress: Progress,
) -> tuple[set[int], tuple[KeptFloat, ...]]:
    """Leave operators in float, those where INT8 fails most first, until the model is good enough.

    Each step tries the operators that are worst, each alone and together with the operators that compute its inputs:
    where an activation does not fit into 8 bits, both its producer and its reader must be in float.

    Args:
        reference: the float model.
        pair: it and the full-integer model.
        ranked: operators by their index in the float model, worst first.
        attempt: makes and measures a file with these operators in float.
        reached: whether such a file, refined, is good enough.
        progress: called with ("Choosing float operators", done, total).

    Returns:
        The operators, by their index in the float model; and what each step reduced and cost.
    """
    numbers = {match.reference.index: match.candidate.index for match in pair.operators}
    kept: set[int] = set()
    steps: list[KeptFloat] = []
    present = attempt(kept)
    for step in range(_MOST_STEPS):
        progress("Choosing float operators", step, _MOST_STEPS)
        if reached(kept):
            break
        best, gained = _best(_sets(reference, pair, [i for i in ranked if i not in kept]), kept, attempt, present)
        if best is None:
            break
        steps.append(
            KeptFloat(
                tuple(_described(reference, numbers, index) for index in sorted(gained - kept)),
                present.error,
                best.error,
                best.latency_ms - present.latency_ms,
                len(best.content) - len(present.content),
            )
        )
        kept, present = gained, best
    progress("Choosing float operators", _MOST_STEPS, _MOST_STEPS)
    return kept, tuple(steps)


def _sets(reference: Graph, pair: GraphPair, ranked: Sequence[int]) -> list[tuple[int, ...]]:
    """List the sets of operators to try: the worst ones alone, then each with the producers of its inputs."""
    paired = {match.reference.index for match in pair.operators}
    worst = [index for index in ranked if index in paired][:_CANDIDATES]
    alone = [(index,) for index in worst]
    return alone + [(index, *_before(reference, reference.operators[index], paired)) for index in worst]


def _before(graph: Graph, operator: Operator, paired: Collection[int]) -> list[int]:
    """Return the operators that compute an operator's inputs, behind those that only pass values through."""
    found = []
    for index in graph.activations(operator):
        producer = graph.producers.get(index)
        while producer is not None:
            found.append(producer.index)
            if producer.index in paired:
                break
            producer = graph.producers.get(graph.activations(producer)[0])
    return found


def _best(
    sets: Sequence[tuple[int, ...]],
    kept: set[int],
    attempt: Callable[[Collection[int]], Trial],
    present: Trial,
) -> tuple[Trial | None, set[int]]:
    """Return the set of least error, the smaller of two that are about equal; None if none is better."""
    best, chosen, bound = None, kept, present.error * (1 - _LEAST_GAIN)
    for operators in sets:  # small sets come first
        trial = attempt(kept | set(operators))
        if trial.error < bound:
            best, chosen, bound = trial, kept | set(operators), trial.error * (1 - _LEAST_GAIN)
    return best, chosen


def _described(graph: Graph, numbers: dict[int, int], index: int) -> str:
    operator = graph.operators[index]
    number = numbers.get(index, index)
    return f"{number} {operator.name} {graph.tensors[operator.outputs[0]].name.partition(';')[0]}".rstrip()
