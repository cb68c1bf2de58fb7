"""Find the counterpart of each operator of a float model in an INT8 model, by the structure of the two graphs.

Names do not help, because each converter gives its own. Two operators correspond if they have the same type and their
inputs correspond, starting from the models' inputs. Transparent operators, which only pass values through (QUANTIZE,
DEQUANTIZE, RESHAPE, the padding before a convolution), are skipped, so the graphs may differ in them. If several
operators of one type read the same tensor, those with the most similar weights correspond.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.tflite.graph import Graph, Operator

__all__ = ["WEIGHTED", "GraphPair", "OperatorPair", "pair_graphs"]

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators with weights and a bias: linear apart from the activation function fused to them."""

_TRANSPARENT = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "IDENTITY")
_LEAST_CORRELATION = 0.5
"""Smallest median correlation of the weights of two models that correspond.

INT8 rounding leaves a correlation of at least 0.99; networks from different trainings have one of about 0."""


@dataclass(frozen=True)
class OperatorPair:
    """An operator of the float model and its counterpart in the INT8 model.

    Attributes:
        reference: the float model's operator.
        candidate: the INT8 model's operator.
        extra_channels: number of output channels that only the candidate has, before the common ones: 1 for the
            classifier of a model with a background class that the float model does not have, else 0.
    """

    reference: Operator
    candidate: Operator
    extra_channels: int = 0


@dataclass(frozen=True)
class GraphPair:
    """Two graphs whose operators correspond.

    Attributes:
        reference: the float model.
        candidate: the INT8 model.
        inputs: indices of corresponding inputs, of the reference and of the candidate, in the reference's order.
        operators: pairs of corresponding operators without the transparent ones, in the reference's order of execution.
    """

    reference: Graph
    candidate: Graph
    inputs: tuple[tuple[int, int], ...]
    operators: tuple[OperatorPair, ...]


def pair_graphs(reference: Graph, candidate: Graph) -> GraphPair:
    """Pair the operators of a float model with those of an INT8 model that any converter made from it.

    Args:
        reference: the float model.
        candidate: the INT8 model.

    Raises:
        InputError: the graphs do not correspond; the message names the first operators that differ.
    """
    where = f"{reference.path} and {candidate.path} do not correspond"
    for graph in (reference, candidate):
        _check_batch(graph)
    roots = _Roots(reference), _Roots(candidate)
    counterpart = _paired_inputs(reference, candidate, where)
    left = [operator for operator in candidate.operators if not _is_transparent(candidate, operator)]
    pairs: list[OperatorPair] = []
    correlations: list[float] = []
    for operator in reference.operators:
        if _is_transparent(reference, operator):
            continue
        wanted = sorted(counterpart.get(i, -1) for i in roots[0].of(reference.activations(operator)))
        kind = _kind(reference, operator)
        found = [
            OperatorPair(operator, other, extra)
            for other in left
            if _kind(candidate, other) == kind
            and sorted(roots[1].of(candidate.activations(other))) == wanted
            and (extra := _extra_channels(reference, operator, candidate, other)) is not None
        ]
        if not found:
            there = next((o for o in left if sorted(roots[1].of(candidate.activations(o))) == wanted), None)
            instead = _described(candidate, there) if there else "no operator that reads the same tensor"
            raise InputError(f"{where}: the first has {_described(reference, operator)}, but the second {instead}")
        likeness = [_likeness(reference, operator, candidate, match.candidate) for match in found]
        best = found[int(np.argmax(likeness))]
        if operator.name in WEIGHTED:
            correlations.append(max(likeness))
        left.remove(best.candidate)
        counterpart.update(zip(operator.outputs, best.candidate.outputs, strict=False))
        pairs.append(best)
    if left:
        raise InputError(f"{where}: the first has no counterpart to {_described(candidate, left[0])} of the second")
    typical = float(np.median(correlations)) if correlations else 1.0
    if typical < _LEAST_CORRELATION:
        raise InputError(
            f"{where}: their weights have nothing in common (correlation {typical:.2f}), so the second was not made "
            "from the first"
        )
    inputs = tuple((index, counterpart[index]) for index in reference.inputs)
    return GraphPair(reference, candidate, inputs, tuple(pairs))


def _check_batch(graph: Graph) -> None:
    """Raise an InputError unless each operator computes activations of batch size 1."""
    for operator in graph.operators:
        if any(graph.tensors[index].shape[:1] != (1,) for index in operator.outputs):
            raise InputError(
                f"{graph.path}: {_described(graph, operator)} does not make activations of one image; convert the "
                "network again with a fixed batch of 1"
            )


def _paired_inputs(reference: Graph, candidate: Graph, where: str) -> dict[int, int]:
    """Pair the models' inputs: by name if both use the same names, else by position.

    Raises:
        InputError: the models have different numbers of inputs.
    """
    names = [[graph.tensors[index].name for index in graph.inputs] for graph in (reference, candidate)]
    if len(names[0]) != len(names[1]):
        raise InputError(f"{where}: the first has {len(names[0])} inputs, the second {len(names[1])}")
    others = candidate.inputs
    if sorted(names[0]) == sorted(names[1]) and len(set(names[0])) == len(names[0]):
        others = tuple(candidate.inputs[names[1].index(name)] for name in names[0])
    return dict(zip(reference.inputs, others, strict=True))


class _Roots:
    """Traces tensors back through transparent operators."""

    def __init__(self, graph: Graph) -> None:
        self._back = {
            operator.outputs[0]: graph.activations(operator)[0]
            for operator in graph.operators
            if _is_transparent(graph, operator)
        }

    def of(self, tensors: tuple[int, ...]) -> list[int]:
        found = []
        for index in tensors:
            while index in self._back:
                index = self._back[index]  # noqa: PLW2901
            found.append(index)
        return found


def _is_transparent(graph: Graph, operator: Operator) -> bool:
    return operator.name in _TRANSPARENT and len(graph.activations(operator)) == 1


def _kind(graph: Graph, operator: Operator) -> str:
    """Return an operator's type, with one name for equivalent operators.

    A 1x1 CONV_2D on one pixel counts as FULLY_CONNECTED, and an average pool over the whole input as MEAN.
    """
    if operator.name not in ("CONV_2D", "AVERAGE_POOL_2D") or not graph.activations(operator):
        return operator.name
    shape = graph.tensors[graph.activations(operator)[0]].shape
    if operator.name == "CONV_2D":
        kernel = graph.tensors[operator.inputs[1]].shape
        return "FULLY_CONNECTED" if shape[1:3] == kernel[1:3] == (1, 1) else operator.name
    # An average pool over the whole input is a MEAN.
    window = (operator.options.filterHeight, operator.options.filterWidth)
    return "MEAN" if window == shape[1:3] else operator.name


def _extra_channels(reference: Graph, operator: Operator, candidate: Graph, other: Operator) -> int | None:
    """Return how many channels `other` has before those of `operator`; None if their shapes do not correspond."""
    shapes = [
        tuple(n for n in graph.tensors[o.outputs[0]].shape if n != 1)  # (1, 1, 1, 1000) is the same as (1, 1000)
        for graph, o in ((reference, operator), (candidate, other))
    ]
    if shapes[0] == shapes[1]:
        kernels = [
            int(np.prod(graph.tensors[o.inputs[1]].shape)) if o.name in WEIGHTED else 0
            for graph, o in ((reference, operator), (candidate, other))
        ]
        return 0 if kernels[0] == kernels[1] else None
    classes = len(shapes[0]) == len(shapes[1]) == 1
    return 1 if classes and shapes[1][0] - shapes[0][0] == 1 else None


def _likeness(reference: Graph, operator: Operator, candidate: Graph, other: Operator) -> float:
    """Return the correlation of two operators' weights, in -1..1; 0 for operators without weights."""
    if operator.name not in WEIGHTED or other.name not in WEIGHTED:
        return 0.0
    first, second = (_flat_weights(graph, o) for graph, o in ((reference, operator), (candidate, other)))
    if first is None or second is None:
        return 0.0
    second = second[second.size - first.size :]  # without the background class
    norm = float(np.linalg.norm(first) * np.linalg.norm(second))
    return float(first @ second) / norm if norm else 0.0


def _flat_weights(graph: Graph, operator: Operator) -> npt.NDArray[np.float64] | None:
    weights = graph.tensors[operator.inputs[1]]
    return None if weights.data is None else weights.dequantize().ravel()


def _described(graph: Graph, operator: Operator) -> str:
    shape = "x".join(map(str, graph.tensors[operator.outputs[0]].shape[1:]))
    return f"operator {operator.index} ({operator.name} to {shape})"
