"""Finding for each operator of a float model its counterpart in an INT8 model, by structure.

Names are of no use: every converter makes its own. What holds is what an operator does and where its inputs
come from. Both graphs are followed from the input on; operators that only hand values on (QUANTIZE,
DEQUANTIZE, RESHAPE, the padding in front of a convolution) are looked through, so it does not matter which of
the two has them. Where several operators of a kind read the same tensor, the weights tell which is which.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.tflite.graph import Graph, Operator

__all__ = ["WEIGHTED", "GraphPair", "OperatorPair", "pair_graphs"]

WEIGHTED = ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED")
"""Operators that have weights and a bias: linear but for the activation that is fused to them."""

_LOOKED_THROUGH = ("QUANTIZE", "DEQUANTIZE", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "PAD", "IDENTITY")
_LEAST_CORRELATION = 0.5
"""Of the weights of two networks that are one: INT8 rounding leaves 0.99 and more, another training nothing."""


@dataclass(frozen=True)
class OperatorPair:
    """An operator of the float model and its counterpart in the INT8 model.

    Attributes:
        reference: the float model's.
        candidate: the INT8 model's.
        extra_channels: output channels of the candidate, in front of the common ones, that the reference has not
            (1 for the classifier of a model with a background class).
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
        operators: those that do something, in the reference's order of execution.
    """

    reference: Graph
    candidate: Graph
    operators: tuple[OperatorPair, ...]


def pair_graphs(reference: Graph, candidate: Graph) -> GraphPair:
    """Pair the operators of a float model and of an INT8 model made from it, by whichever tool.

    Raises:
        InputError: they do not correspond; the message says where they part.
    """
    where = f"{reference.path} and {candidate.path} do not correspond"
    for graph in (reference, candidate):
        _check_one_image(graph)
    roots = _Roots(reference), _Roots(candidate)
    counterpart = {reference.inputs[0]: candidate.inputs[0]}
    left = [operator for operator in candidate.operators if not _is_looked_through(candidate, operator)]
    pairs: list[OperatorPair] = []
    correlations: list[float] = []
    for operator in reference.operators:
        if _is_looked_through(reference, operator):
            continue
        wanted = sorted(counterpart.get(i, -1) for i in roots[0].of(reference.activations(operator)))
        kind = _kind(reference, operator)
        found = [
            other
            for other in left
            if _kind(candidate, other) == kind
            and sorted(roots[1].of(candidate.activations(other))) == wanted
            and _extra_channels(reference, operator, candidate, other) is not None
        ]
        if not found:
            there = next((o for o in left if sorted(roots[1].of(candidate.activations(o))) == wanted), None)
            instead = _described(candidate, there) if there else "nothing that reads the same tensor"
            raise InputError(f"{where}: {_described(reference, operator)} of the first meets {instead} in the second")
        likeness = [_likeness(reference, operator, candidate, other) for other in found]
        best = found[int(np.argmax(likeness))]
        if operator.name in WEIGHTED:
            correlations.append(max(likeness))
        left.remove(best)
        counterpart[operator.outputs[0]] = best.outputs[0]
        extra = _extra_channels(reference, operator, candidate, best)
        assert extra is not None
        pairs.append(OperatorPair(operator, best, extra))
    if left:
        raise InputError(f"{where}: the first has no counterpart to {_described(candidate, left[0])} of the second")
    typical = float(np.median(correlations)) if correlations else 1.0
    if typical < _LEAST_CORRELATION:
        raise InputError(
            f"{where}: their weights have nothing in common (correlation {typical:.2f}), so the second was not made "
            "from the first"
        )
    return GraphPair(reference, candidate, tuple(pairs))


def _check_one_image(graph: Graph) -> None:
    """Every operator makes one activation of one image; shapes computed at run time do not."""
    for operator in graph.operators:
        shape = graph.tensors[operator.outputs[0]].shape
        if len(operator.outputs) != 1 or not shape or shape[0] != 1:
            raise InputError(
                f"{graph.path}: {_described(graph, operator)} does not make one activation of one image; convert "
                "the network again with a fixed batch of 1"
            )


class _Roots:
    """Traces a tensor back through the operators that only hand it on."""

    def __init__(self, graph: Graph) -> None:
        self._back = {
            operator.outputs[0]: graph.activations(operator)[0]
            for operator in graph.operators
            if _is_looked_through(graph, operator)
        }

    def of(self, tensors: tuple[int, ...]) -> list[int]:
        found = []
        for index in tensors:
            while index in self._back:
                index = self._back[index]  # noqa: PLW2901
            found.append(index)
        return found


def _is_looked_through(graph: Graph, operator: Operator) -> bool:
    return operator.name in _LOOKED_THROUGH and len(graph.activations(operator)) == 1


def _kind(graph: Graph, operator: Operator) -> str:
    """What an operator does, by one name where TFLite has several."""
    if operator.name not in ("CONV_2D", "AVERAGE_POOL_2D") or not graph.activations(operator):
        return operator.name
    shape = graph.tensors[graph.activations(operator)[0]].shape
    if operator.name == "CONV_2D":
        kernel = graph.tensors[operator.inputs[1]].shape
        return "FULLY_CONNECTED" if shape[1:3] == kernel[1:3] == (1, 1) else operator.name
    # A mean over the whole picture.
    window = (operator.options.filterHeight, operator.options.filterWidth)
    return "MEAN" if window == shape[1:3] else operator.name


def _extra_channels(reference: Graph, operator: Operator, candidate: Graph, other: Operator) -> int | None:
    """How many channels `other` gives in front of those of `operator`; None if their shapes do not go together."""
    shapes = [
        tuple(n for n in graph.tensors[o.outputs[0]].shape if n != 1)  # [1, 1, 1, 1000] is [1, 1000]
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
    """Correlation of two operators' weights, in -1..1; 0 for operators without."""
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
