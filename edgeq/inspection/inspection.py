"""Inspect a model: its inputs, outputs, operators, costs and metadata, and whether targets support it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq.files import sha256_of_file
from edgeq.inspection import costs
from edgeq.inspection.targets import TargetReport, check_target
from edgeq.tflite.graph import ABSENT, Graph, Operator, read_graph
from edgeq.tflite.metadata import read_metadata

__all__ = ["Inspection", "OperatorGroup", "Port", "inspect"]


@dataclass(frozen=True)
class Port:
    """An input or an output of a model.

    Attributes:
        name: the name in the file's signature, else the tensor's name.
        shape: the tensor's shape, including the batch dimension, for example (1, 224, 224, 3); -1 for a dynamic
            dimension.
        dtype: NumPy name of the tensor's type.
        scale: real units per integer step; empty if the tensor is not quantized.
        zero_point: the integer that represents 0.0; as many entries as `scale`.
        real_range: smallest and largest real number that the tensor can hold; None if it is not quantized.
    """

    name: str
    shape: tuple[int, ...]
    dtype: str
    scale: tuple[float, ...]
    zero_point: tuple[int, ...]
    real_range: tuple[float, float] | None


@dataclass(frozen=True)
class OperatorGroup:
    """All operators of the same kind, version and tensor types.

    Attributes:
        name: the operators' kind, named as in TFLite's schema, for example ``CONV_2D``.
        version: the operators' version. A runtime supports each kind of operator up to some version.
        types: types of the input and output activations, such as ``int8`` or ``float32 to int8``.
        count: number of operators in the group.
        parameters: total number of weights and biases.
        multiply_adds: total number of multiply-adds for one run of the model.
    """

    name: str
    version: int
    types: str
    count: int
    parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class Inspection:
    """The content and the costs of a .tflite file.

    Attributes:
        path: the file's path.
        sha256: SHA-256 digest of the file, in hexadecimal.
        size_bytes: size of the file.
        inputs: the model's inputs, in the runtime's order.
        outputs: the model's outputs, in the runtime's order.
        operators: groups of operators, those with the most multiply-adds first, then those with the most operators.
        full_integer: whether no activation is a floating-point number, including inputs and outputs.
        parameters: number of all weights and biases; shared tensors count once.
        multiply_adds: number of multiply-adds of convolutions and matrix products for one run of the model.
        peak_activation_bytes: see :func:`edgeq.inspection.costs.peak_activation_bytes`.
        subgraphs: number of graphs in the file. All except the first belong to control flow and are not inspected.
        labels: the classes' names, one per class, or empty.
        preprocessing: how images become inputs, as JSON data; None if the file does not state it.
        provenance: how the file was made, as JSON data.
        targets: one report per requested target.
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
    targets: tuple[TargetReport, ...]

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return asdict(self)


def inspect(model: str | Path, targets: Sequence[str] = ()) -> Inspection:
    """Inspect a .tflite file without running it.

    Args:
        model: the .tflite file.
        targets: names in `edgeq.inspection.TARGETS` to check the model against; for a runtime, optionally with a
            version, as in ``tflite-runtime==2.14``.

    Raises:
        ModelError: the file does not exist, is not a .tflite model, or its metadata is damaged.
        InputError: a target or its version is unknown.
        RuntimeUnavailableError: ai-edge-litert, or a tool that a target needs, is not installed.
    """
    graph, path = read_graph(model), Path(model)
    metadata = read_metadata(path)
    activations = {i for o in graph.operators for i in (*graph.activations(o), *o.outputs)}
    activations |= {*graph.inputs, *graph.outputs}
    return Inspection(
        path=str(model),
        sha256=sha256_of_file(path),
        size_bytes=path.stat().st_size,
        inputs=tuple(_port(graph, index) for index in graph.inputs),
        outputs=tuple(_port(graph, index) for index in graph.outputs),
        operators=_groups(graph),
        full_integer=not any(dtype.startswith("float") for dtype in graph.dtypes(activations)),
        parameters=costs.parameters(graph, graph.operators),
        multiply_adds=sum(costs.multiply_adds(graph, operator) for operator in graph.operators),
        peak_activation_bytes=costs.peak_activation_bytes(graph),
        subgraphs=len(graph.model.subgraphs),
        labels=metadata.labels,
        preprocessing=metadata.preprocessing.to_json() if metadata.preprocessing else None,
        provenance=metadata.provenance,
        targets=tuple(check_target(graph, target) for target in targets),
    )


def _port(graph: Graph, index: int) -> Port:
    tensor = graph.tensors[index]
    quantization = tensor.quantization
    return Port(
        name=_signature_name(graph, index) or tensor.name,
        shape=graph.open_shape(index),
        dtype=quantization.dtype,
        scale=quantization.scale,
        zero_point=quantization.zero_point,
        real_range=quantization.real_range if quantization.is_quantized else None,
    )


def _signature_name(graph: Graph, index: int) -> str | None:
    """Return the name of an input or output in the file's only signature, under which programs address it."""
    signatures = graph.model.signatureDefs or []
    entries = [*(signatures[0].inputs or []), *(signatures[0].outputs or [])] if len(signatures) == 1 else []
    names = [bytes(entry.name).decode("utf-8", "replace") for entry in entries if int(entry.tensorIndex) == index]
    return names[0] if names else None


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
    """Describe the types of an operator's activations and, if these are floats, of its quantized weights."""

    def names(indices: Iterable[int]) -> str:
        return ", ".join(sorted(graph.dtypes(indices)))

    before, after = names(graph.activations(operator)) or "constant", names(operator.outputs)
    text = after if before == after else f"{before} to {after}"
    constants = [i for i in operator.inputs if i != ABSENT and graph.is_constant(i)]
    weights = [i for i in constants if graph.tensors[i].quantization.is_quantized]
    if before.startswith("float") and weights:
        text += f", {names(weights)} weights"
    return text
