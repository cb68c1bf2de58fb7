"""Give a full-integer model uint8 inputs and outputs: QUANTIZE operators between them and the int8 tensors."""

from __future__ import annotations

import copy
from typing import Any

import numpy as np

from edgeq.tflite.graph import Graph, load_schema
from edgeq.tflite.packing import pack_model

__all__ = ["with_uint8_io"]

_SHIFT = 128  # from an int8 zero point to that of the same real numbers in uint8


def with_uint8_io(graph: Graph) -> bytes:
    """Return the model with uint8 in place of int8 at its inputs and outputs, as TensorFlow's converter does it."""
    schema = load_schema()
    model = copy.deepcopy(graph.model)
    main = model.subgraphs[0]
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 2
    model.operatorCodes.append(code)

    def twin(index: int) -> int:
        """Add a uint8 tensor with the real numbers of an int8 tensor, and return its index."""
        tensor = copy.deepcopy(main.tensors[index])
        tensor.type, tensor.name = schema.TensorType.UINT8, bytes(tensor.name) + b"_uint8"
        tensor.quantization.zeroPoint = np.asarray(tensor.quantization.zeroPoint, np.int64) + _SHIFT
        main.tensors.append(tensor)
        return len(main.tensors) - 1

    def quantize(source: int, target: int) -> Any:
        operator = schema.OperatorT()
        operator.opcodeIndex = len(model.operatorCodes) - 1
        operator.inputs, operator.outputs = np.array([source], np.int32), np.array([target], np.int32)
        operator.builtinOptionsType = schema.BuiltinOptions.QuantizeOptions
        operator.builtinOptions = schema.QuantizeOptionsT()
        return operator

    ends = {index: twin(index) for index in (*graph.inputs, *graph.outputs) if graph.dtypes([index]) == {"int8"}}
    before = [quantize(ends[index], index) for index in graph.inputs if index in ends]
    after = [quantize(index, ends[index]) for index in graph.outputs if index in ends]
    main.operators = [*before, *main.operators, *after]
    main.inputs = np.array([ends.get(index, index) for index in graph.inputs], np.int32)
    main.outputs = np.array([ends.get(index, index) for index in graph.outputs], np.int32)
    for signature in model.signatureDefs or []:
        for entry in (*signature.inputs, *signature.outputs):
            entry.tensorIndex = ends.get(int(entry.tensorIndex), int(entry.tensorIndex))
    return pack_model(model, len(graph.content))
