"""A model's inputs, outputs, operators and costs, and what it says about itself."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq.files import sha256_of_file
from edgeq.inspection import costs
from edgeq.tflite.graph import ABSENT, Graph, Operator
from edgeq.tflite.metadata import read_metadata

__all__ = ["Inspection", "OperatorGroup", "Port", "inspect"]


@dataclass(frozen=True)
class Port:
    """An input or an output of a model.

    Attributes:
        name: as in the file.
        shape: with the batch, for instance (1, 224, 224, 3); -1 where the file leaves a side open.
        dtype: NumPy's name of the type.
        scale: real units per integer step; empty where it is not quantized.
        zero_point: the integer that stands for 0.0; as many as `scale`.
        real_range: smallest and largest real number that it can hold; None where it is not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    real_range: tuple[float, float] | None


@dataclass(frozen=True)
class OperatorGroup:
    """All operators of one kind, version and type.

    Attributes:
        name: as in TFLite's schema, for instance ``CONV_2D``.
        version: of the operator; runtimes know them up to one of their own.
        types: of the activations that go in and come out, such as ``int8`` or ``float32 to int8``.
        count: how many there are.
        parameters: their weights and biases.
        multiply_adds: theirs for one image.
    """

    name: str
    version: int
    types: str
    count: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Inspection:
    """What is inside a .tflite file.

    Attributes:
        path: the file.
        sha256: its digest, in hexadecimal.
        size_bytes: its size.
        inputs: in the order of the runtime's.
        outputs: the same.
        operators: those with the most multiply-adds first, then by number.
        full_integer: whether every activation is an integer, inputs and outputs too.
        parameters: all weights and biases, each tensor once.
        multiply_adds: of convolutions and matrix products for one run.
        peak_activation_bytes: see :func:`edgeq.inspection.costs.peak_activation_bytes`.
        subgraphs: how many graphs the file has; all but the first belong to control flow, and are not counted.
        labels: one a class, or empty.
        preprocessing: how images become inputs, as JSON data; None where the file does not say.
        provenance: where the file comes from, as JSON data.
    """

    path: str
    sha256: str
    size_bytes: int
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    operators: tuple[OperatorGroup, ...]
    full_integer: bool
    parameters: int
    multiply_adds: int
    peak_activation_bytes: int
    subgraphs: int
    labels: tuple[str, ...]
    preprocessing: dict[str, Any] | None
    provenance: dict[str, Any]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the names of the attributes."""
        return asdict(self)


def inspect(graph: Graph) -> Inspection:
    """Look into a model, see :func:`edgeq.graphs.read_graph`.

    Raises:
        ModelError: the file carries metadata of edgeq's that cannot be read.
    """
    path = Path(graph.path)
    metadata = read_metadata(path)
    activations = {i for o in graph.operators for i in (*graph.activations(o), *o.outputs)}
    activations |= {*graph.inputs, *graph.outputs}
    return Inspection(
        path=graph.path,
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        inputs=tuple(_port(graph, index) for index in graph.inputs),
        outputs=tuple(_port(graph, index) for index in graph.outputs),
        operators=_groups(graph),
        full_integer=not any(graph.tensors[i].quantization.dtype.startswith("float") for i in activations),
        parameters=costs.parameters(graph, graph.operators),
        multiply_adds=sum(costs.multiply_adds(graph, operator) for operator in graph.operators),
        peak_activation_bytes=costs.peak_activation_bytes(graph),
        subgraphs=len(graph.model.subgraphs),
        labels=metadata.labels,
        preprocessing=metadata.preprocessing.to_json() if metadata.preprocessing else None,
        provenance=metadata.provenance,
    )


def _port(graph: Graph, index: int) -> Port:
    tensor = graph.tensors[index]
    quantization = tensor.quantization
    return Port(
        name=tensor.name,
        shape=graph.open_shape(index),
        dtype=quantization.dtype,
        scale=quantization.scale,
        zero_point=quantization.zero_point,
        real_range=quantization.real_range if quantization.is_quantized else None,
    )


def _groups(graph: Graph) -> tuple[OperatorGroup, ...]:
    members: dict[tuple[str, int, str], list[Operator]] = {}
    for operator in graph.operators:
        members.setdefault((operator.name, operator.version, _types(graph, operator)), []).append(operator)
    groups = [
        OperatorGroup(
            *kind,
            count=len(operators),
            parameters=costs.parameters(graph, operators),
            multiply_adds=sum(costs.multiply_adds(graph, operator) for operator in operators),
        )
        for kind, operators in members.items()
    ]
    return tuple(sorted(groups, key=lambda group: (-group.multiply_adds, -group.count, group.name)))


def _types(graph: Graph, operator: Operator) -> str:
    """The types of an operator's activations; of its weights too, where those differ from float activations."""

    def names(indices: tuple[int, ...]) -> str:
        return ", ".join(sorted({graph.tensors[index].quantization.dtype for index in indices}))

    before, after = names(graph.activations(operator)) or "constant", names(operator.outputs)
    text = after if before == after else f"{before} to {after}"
    weights = [graph.tensors[i] for i in operator.inputs if i != ABSENT and graph.is_constant(i)]
    if before.startswith("float") and any(w.quantization.is_quantized for w in weights):
        text += f", {names(tuple(w.index for w in weights if w.quantization.is_quantized))} weights"
    return text
