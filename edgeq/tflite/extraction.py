"""Make .tflite models from parts of a graph: one operator, some operators, or all with inner tensors as outputs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from edgeq.tflite.graph import ABSENT, Graph, Operator, load_schema
from edgeq.tflite.packing import pack_model

__all__ = ["extract", "one_operator", "signature_names", "with_outputs", "with_signature"]


def one_operator(graph: Graph, operator: Operator, batch: int) -> bytes:
    """Make a model of one operator and its constants.

    Args:
        graph: the operator's graph.
        operator: an operator whose inputs have batch size 1; for a larger `batch`, it must process the items of a batch
            independently.
        batch: the new model's batch size.

    Returns:
        A .tflite flatbuffer. Its inputs are the operator's input activations in order, without duplicates; its outputs
        are the operator's outputs.
    """
    inputs = tuple(dict.fromkeys(graph.activations(operator)))
    return _build(graph, [operator], inputs, operator.outputs, batch)


def with_outputs(graph: Graph, tensors: Sequence[int]) -> bytes:
    """Make a model of the whole graph whose outputs are the given tensors, in this order; return its flatbuffer."""
    return _build(graph, graph.operators, graph.inputs, tensors, 1)


def extract(
    graph: Graph,
    operators: Sequence[Operator],
    inputs: Mapping[str, int],
    outputs: Mapping[str, int],
) -> bytes:
    """Make a model of some operators, without metadata, with one signature and a different name for every tensor.

    Args:
        graph: the operators' graph.
        operators: the operators, in the order of execution.
        inputs: the new model's inputs: indices of tensors by their names in the signature.
        outputs: the new model's outputs, likewise.

    Returns:
        A .tflite flatbuffer.
    """
    return _build(graph, operators, tuple(inputs.values()), tuple(outputs.values()), 1, (tuple(inputs), tuple(outputs)))


def with_signature(graph: Graph) -> Graph:
    """Return a copy of a graph that has a signature, and a different name for every tensor."""
    return Graph(extract(graph, graph.operators, *signature_names(graph)), graph.path)


def signature_names(graph: Graph) -> tuple[dict[str, int], dict[str, int]]:
    """Return inputs and outputs by their names: those of the file's signature, else those of the tensors."""
    found = []
    signatures = graph.model.signatureDefs or []
    for side, indices in (("inputs", graph.inputs), ("outputs", graph.outputs)):
        stated = {}
        if len(signatures) == 1:
            stated = {int(entry.tensorIndex): entry.name.decode() for entry in getattr(signatures[0], side) or []}
        found.append({stated.get(index) or graph.tensors[index].name or f"{side}_{index}": index for index in indices})
    return found[0], found[1]


def _build(
    graph: Graph,
    operators: Sequence[Operator],
    inputs: Sequence[int],
    outputs: Sequence[int],
    batch: int,
    names: tuple[Sequence[str], Sequence[str]] | None = None,
) -> bytes:
    """Copy operators and all their tensors into a new model whose activations have batch size `batch`.

    With `names` of the inputs and outputs, the model has a signature, and no two tensors the same name.
    """
    schema = load_schema()
    source = graph.model.subgraphs[0]
    used = sorted({i for o in operators for i in (*o.inputs, *o.outputs) if i != ABSENT} | {*inputs, *outputs})
    renumbered = {index: number for number, index in enumerate(used)} | {ABSENT: ABSENT}
    buffers, tensors = [schema.BufferT()], []  # buffer 0 is for tensors without data
    copied: dict[int, int] = {}  # tensors with equal data may share a buffer
    for index in used:
        tensor, copy = source.tensors[index], schema.TensorT()
        copy.name, copy.type, copy.quantization = tensor.name, tensor.type, tensor.quantization
        copy.shape = np.array(graph.tensors[index].shape, np.int32)
        copy.buffer = 0
        data = graph.buffer(tensor.buffer)
        if tensor.buffer in copied:
            copy.buffer = copied[tensor.buffer]
        elif data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(bytes(data), np.uint8)
            copy.buffer = copied[tensor.buffer] = len(buffers)
            buffers.append(buffer)
        elif batch != 1:
            copy.shape[0] = batch
        tensors.append(copy)
    steps = []
    for operator in operators:
        original, copy = source.operators[operator.index], schema.OperatorT()
        copy.opcodeIndex = original.opcodeIndex
        copy.builtinOptionsType, copy.builtinOptions = original.builtinOptionsType, original.builtinOptions
        copy.builtinOptions2Type, copy.builtinOptions2 = original.builtinOptions2Type, original.builtinOptions2
        copy.customOptions = original.customOptions
        copy.inputs = np.array([renumbered[i] for i in operator.inputs], np.int32)
        copy.outputs = np.array([renumbered[i] for i in operator.outputs], np.int32)
        steps.append(copy)
    main = schema.SubGraphT()
    main.tensors, main.operators = tensors, steps
    main.inputs = np.array([renumbered[i] for i in inputs], np.int32)
    main.outputs = np.array([renumbered[i] for i in outputs], np.int32)
    model = schema.ModelT()
    model.version, model.operatorCodes = graph.model.version, graph.model.operatorCodes
    model.subgraphs, model.buffers = [main], buffers
    if names is not None:
        model.signatureDefs = [_signature(names[0], main.inputs, names[1], main.outputs)]
        _tell_names_apart(tensors)
    return pack_model(model, sum(buffer.data.size for buffer in buffers[1:]))


def _signature(
    inputs: Sequence[str], input_tensors: Sequence[int], outputs: Sequence[str], output_tensors: Sequence[int]
) -> Any:
    """Make the signature of a model's only graph."""
    schema = load_schema()
    signature = schema.SignatureDefT()
    signature.signatureKey, signature.subgraphIndex = b"serving_default", 0
    for side, names, indices in (("inputs", inputs, input_tensors), ("outputs", outputs, output_tensors)):
        entries = []
        for name, index in zip(names, indices, strict=True):
            entry = schema.TensorMapT()
            entry.name, entry.tensorIndex = name.encode(), int(index)
            entries.append(entry)
        setattr(signature, side, entries)
    return signature


def _tell_names_apart(tensors: Sequence[Any]) -> None:
    """Add a number to each tensor name that occurred before."""
    used: set[bytes] = set()
    for number, tensor in enumerate(tensors):
        name = bytes(tensor.name or b"tensor")
        tensor.name = name if name not in used else name + f"_{number}".encode()
        used.add(tensor.name)
