"""Write small .tflite models by hand, valid ones and hostile ones."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest

from edgeq.tflite.packing import pack_model

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

TYPES = {"float32": 0, "int32": 2, "uint8": 3, "int64": 4, "bool": 6, "int8": 9}


class T(NamedTuple):
    """A tensor: its shape, its type, and its values if it is constant."""

    shape: tuple[int, ...]
    dtype: str = "float32"
    data: Any = None


class Op(NamedTuple):
    """An operator: its type, its inputs and outputs, its options, and its own name and options if it is custom."""

    name: str
    inputs: Sequence[int]
    outputs: Sequence[int]
    options: Any = None
    custom: str = ""
    custom_options: bytes = b""


class Graph(NamedTuple):
    """A subgraph."""

    tensors: Sequence[T]
    operators: Sequence[Op]
    inputs: Sequence[int]
    outputs: Sequence[int]


def build(*graphs: Graph) -> Any:
    """Make a model of the schema's classes, which a test may damage before it is packed."""
    model = schema.ModelT()
    model.version, model.buffers, model.operatorCodes, model.subgraphs = 3, [schema.BufferT()], [], []
    codes: dict[tuple[str, str], int] = {}
    for graph in graphs:
        part = schema.SubGraphT()
        part.tensors, part.operators = [], []
        part.inputs, part.outputs = (np.array(side, np.int32) for side in (graph.inputs, graph.outputs))
        for number, (shape, dtype, data) in enumerate(graph.tensors):
            tensor = schema.TensorT()
            tensor.name, tensor.shape, tensor.type = f"t{number}", np.array(shape, np.int32), TYPES[dtype]
            if data is not None:
                buffer = schema.BufferT()
                buffer.data = np.frombuffer(np.broadcast_to(np.asarray(data, dtype), shape).tobytes(), np.uint8)
                tensor.buffer = len(model.buffers)
                model.buffers.append(buffer)
            part.tensors.append(tensor)
        for op in graph.operators:
            if (op.name, op.custom) not in codes:
                codes[op.name, op.custom] = len(model.operatorCodes)
                code = schema.OperatorCodeT()
                code.builtinCode = getattr(schema.BuiltinOperator, op.name)
                code.deprecatedBuiltinCode = min(127, code.builtinCode)
                code.customCode, code.version = op.custom or None, 1
                model.operatorCodes.append(code)
            operator = schema.OperatorT()
            operator.opcodeIndex = codes[op.name, op.custom]
            operator.inputs, operator.outputs = (np.array(side, np.int32) for side in (op.inputs, op.outputs))
            if op.options is not None:
                operator.builtinOptions = op.options
                operator.builtinOptionsType = getattr(schema.BuiltinOptions, type(op.options).__name__[:-1])
            if op.custom_options:
                operator.customOptions = list(op.custom_options)
            part.operators.append(operator)
        model.subgraphs.append(part)
    return model


def pack(*graphs: Graph) -> bytes:
    """Return the content of a .tflite file."""
    return pack_model(build(*graphs), 4096)


def endless_loop() -> bytes:
    """A valid model of three graphs that never ends: while x equals x, add 1 to x."""
    loop = schema.WhileOptionsT()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 2
    x = T((1,))
    return pack(
        Graph([x, x], [Op("WHILE", [0], [1], loop)], [0], [1]),
        Graph([x, T((1,), "bool")], [Op("EQUAL", [0, 0], [1], schema.EqualOptionsT())], [0], [1]),
        Graph([x, T((1,), data=[1]), x], [Op("ADD", [0, 1], [2], schema.AddOptionsT())], [0], [2]),
    )


def far_write() -> bytes:
    """A valid model whose kernel writes outside its output: SPARSE_TO_DENSE does not check indices."""
    index, shape = T((1,), "int32", [2**30]), T((1,), "int32", [4])
    operator = Op("SPARSE_TO_DENSE", [0, 1, 2, 3], [4], schema.SparseToDenseOptionsT())
    return pack(Graph([index, shape, T((1,)), T((), data=0), T((4,))], [operator], [2], [4]))


def much_memory() -> bytes:
    """A valid model that asks for 64 GB: FILL takes its shape from a constant."""
    shape = T((2,), "int32", [2**17, 2**17])
    return pack(Graph([shape, T(()), T((1, 1))], [Op("FILL", [0, 1], [2], schema.FillOptionsT())], [1], [2]))
