"""Make .tflite models from parts of a graph: one operator, or the whole graph with inner tensors as outputs."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from edgeq.tflite.graph import ABSENT, Graph, Operator, load_schema
from edgeq.tflite.packing import pack_model

__all__ = ["one_operator", "with_outputs"]


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


def _build(
    graph: Graph, operators: Sequence[Operator], inputs: Sequence[int], outputs: Sequence[int], batch: int
) -> bytes:
    """Copy operators and all their tensors into a new model whose activations have batch size `batch`."""
    schema = load_schema()
    source = graph.model.subgraphs[0]
    used = sorted({i for o in operators for i in (*o.inputs, *o.outputs) if i != ABSENT} | {*inputs, *outputs})
    renumbered = {index: number for number, index in enumerate(used)} | {ABSENT: ABSENT}
    buffers, tensors = [schema.BufferT()], []  # buffer 0 is for tensors without data
    for index in used:
        tensor, copy = source.tensors[index], schema.TensorT()
        copy.name, copy.type, copy.quantization = tensor.name, tensor.type, tensor.quantization
        copy.shape = np.array(graph.tensors[index].shape, np.int32)
        copy.buffer = 0
        data = graph.buffer(tensor.buffer)
        if data is not None:
            buffer = schema.BufferT()
            buffer.data = np.frombuffer(bytes(data), np.uint8)
            copy.buffer = len(buffers)
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
    return pack_model(model, sum(buffer.data.size for buffer in buffers[1:]))
