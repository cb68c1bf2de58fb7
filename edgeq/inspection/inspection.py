"""A model's inputs, outputs, operators and costs, its metadata, and whether it runs on a target."""

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
        name: as in the file.
        shape: with the batch, for instance (1, 224, 224, 3); -1 for a dimension that the file leaves open.
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
        version: of the operator; a runtime supports versions up to one of its own.
        types: of input and output activations, such as ``int8`` or ``float32 to int8``.
        count: how many operators there are.
        parameters: number of their weights and biases.
        multiply_adds: of all of them for one image.
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
        size_bytes: of the file.
        inputs: in the runtime's order.
        outputs: in the runtime's order.
        operators: those with the most multiply-adds first, then by number.
        full_integer: whether every activation is an integer, inputs and outputs too.
        parameters: number of all weights and biases, each tensor once.
        multiply_adds: of convolutions and matrix products for one run.
        peak_activation_bytes: see :func:`edgeq.inspection.costs.peak_activation_bytes`.
        subgraphs: how many graphs the file has; all but the first belong to control flow and are not inspected.
        labels: one per class, or empty.
        preprocessing: how images become inputs, as JSON data; None where the file does not say.
        provenance: where the file comes from, as JSON data.
        targets: one report for each target that was asked about.
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
        """Plain JSON data, with the names of the attributes."""
        return asdict(self)


def inspect(model: str | Path, targets: Sequence[str] = ()) -> Inspection:
    """Look into a .tflite file without running it.

    Args:
        model: the file.
        targets: where it is to run: names in `edgeq.inspection.TARGETS`; a runtime may carry a version, as in
            ``tflite-runtime==2.14``.

    Raises:
        ModelError: there is no such file, it is no .tflite model, or its metadata is damaged.
        InputError: there is no such target, or nothing is known about that version.
        RuntimeUnavailableError: ai-edge-litert or a target's own tool is needed and not installed.
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
    """The types of an operator's activations, and of quantized weights beside float activations."""

    def names(indices: Iterable[int]) -> str:
        return ", ".join(sorted(graph.dtypes(indices)))

    before, after = names(graph.activations(operator)) or "constant", names(operator.outputs)
    text = after if before == after else f"{before} to {after}"
    constants = [i for i in operator.inputs if i != ABSENT and graph.is_constant(i)]
    weights = [i for i in constants if graph.tensors[i].quantization.is_quantized]
    if before.startswith("float") and weights:
        text += f", {names(weights)} weights"
    return text
