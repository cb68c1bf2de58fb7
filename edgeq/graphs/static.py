"""Make a graph static: one fixed shape for each tensor, and constants in place of what depends on shapes only.

A converter that leaves the batch size open writes SHAPE, STRIDED_SLICE and PACK operators, which compute shapes while
the model runs. With the input's shape fixed, all of that is constant.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ModelError, one_line
from edgeq.runtime.backends import choose_runtime, import_runtime
from edgeq.tflite.graph import Graph, Operator, load_schema

__all__ = ["is_static", "make_static"]


def is_static(graph: Graph) -> bool:
    """Return whether no tensor has an open dimension, and no operator computes a shape."""
    return not any(o.name == "SHAPE" for o in graph.operators) and all(
        -1 not in graph.open_shape(tensor.index) for tensor in graph.tensors
    )


def make_static(graph: Graph, shapes: dict[int, tuple[int, ...]]) -> tuple[Operator, ...]:
    """Fix the shapes of a graph's inputs, and fold what then is constant.

    The graph's tensors and model change: they get their fixed shapes and the folded constants.

    Args:
        graph: the graph.
        shapes: the shape of each input, by the tensor's index.

    Returns:
        The operators that are left.

    Raises:
        ModelError: the runtime cannot run the graph on inputs of these shapes.
    """
    runtime = choose_runtime()
    module = import_runtime(runtime)
    resolver = module.OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    try:
        interpreter = module.Interpreter(
            model_content=graph.content,
            experimental_op_resolver_type=resolver,
            experimental_preserve_all_tensors=True,
        )
        for details in interpreter.get_input_details():
            interpreter.resize_tensor_input(details["index"], shapes[int(details["index"])])
        interpreter.allocate_tensors()
        for details in interpreter.get_input_details():
            interpreter.set_tensor(details["index"], np.zeros(shapes[int(details["index"])], details["dtype"]))
        interpreter.invoke()
        values = {i: interpreter.get_tensor(i) for operator in graph.operators for i in operator.outputs}
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{graph.path}: {runtime} cannot run this model ({one_line(error)})") from None
    for index, shape in (shapes | {i: v.shape for i, v in values.items()}).items():
        graph.tensors[index] = replace(graph.tensors[index], shape=tuple(int(n) for n in shape))
    left = []
    for operator in graph.operators:
        if operator.name == "SHAPE" or all(graph.is_constant(index) for index in operator.inputs):
            for index in operator.outputs:
                _fold(graph, index, values[index])
        else:
            left.append(operator)
    return tuple(left)


def _fold(graph: Graph, index: int, values: npt.NDArray[Any]) -> None:
    """Turn an activation into a constant."""
    buffer = load_schema().BufferT()
    buffer.data = np.frombuffer(np.ascontiguousarray(values).tobytes(), np.uint8)
    graph.model.subgraphs[0].tensors[index].buffer = len(graph.model.buffers)
    graph.model.buffers.append(buffer)
    graph.tensors[index] = replace(graph.tensors[index], data=values.copy())
