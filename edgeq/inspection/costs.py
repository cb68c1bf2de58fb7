"""Compute the costs of a graph: parameters, multiply-adds, and memory for activations."""

from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np

from edgeq.tflite.graph import ABSENT, Graph, Operator
from edgeq.tflite.liveness import peak_bytes

__all__ = ["multiply_adds", "parameters", "peak_activation_bytes"]


def multiply_adds(graph: Graph, operator: Operator) -> int:
    """Count the multiply-adds of one run of a convolution or matrix product; 0 for any other operator."""
    if operator.name not in ("CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV", "BATCH_MATMUL"):
        return 0
    output = math.prod(graph.tensors[operator.outputs[0]].shape)
    first, second = (graph.tensors[index].shape for index in operator.inputs[:2])
    if operator.name == "CONV_2D":  # weights (outputs, height, width, inputs)
        return output * math.prod(second[1:])
    if operator.name == "DEPTHWISE_CONV_2D":  # weights (1, height, width, channels)
        return output * math.prod(second[1:3])
    if operator.name == "FULLY_CONNECTED":  # weights (outputs, inputs)
        return output * second[-1]
    if operator.name == "TRANSPOSE_CONV":  # inputs (shape, weights, input): each input value uses its channel's weights
        return math.prod(graph.tensors[operator.inputs[2]].shape) * math.prod(second[:3])
    return output * (first[-2] if getattr(operator.options, "adjX", False) else first[-1])


def parameters(graph: Graph, operators: Iterable[Operator]) -> int:
    """Count the weights and biases of operators, each tensor once, without constants such as shapes and axes."""
    constants = {i for operator in operators for i in operator.inputs if i != ABSENT and graph.is_constant(i)}
    return sum(math.prod(graph.tensors[i].shape) for i in constants if _is_parameter(graph, i))


def peak_activation_bytes(graph: Graph) -> int:
    """Compute the largest total size of the activations that are alive at the same time, see `peak_bytes`."""
    sizes = {
        index: math.prod(tensor.shape) * np.dtype(tensor.quantization.dtype).itemsize
        for index, tensor in enumerate(graph.tensors)
        if tensor.data is None and tensor.quantization.dtype != "void"
    }
    steps = [(operator.inputs, operator.outputs) for operator in graph.operators]
    return peak_bytes(sizes, steps, graph.inputs, graph.outputs)


def _is_parameter(graph: Graph, index: int) -> bool:
    quantization = graph.tensors[index].quantization
    return quantization.is_quantized or quantization.dtype.startswith("float")
