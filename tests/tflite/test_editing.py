"""Numbers changed in place: those bytes, in a file of the same length, and no others."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import IntegerPair
from graphs import with_weights_outside

from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph
from edgeq.tflite.packing import pack_model

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def without_constant(content: bytes, index: int) -> list[object]:
    """Everything in a model but the values and the quantization of one tensor."""
    graph = Graph(content, "m")
    return [
        [(o.name, o.inputs, o.outputs) for o in graph.operators],
        [(t.name, t.shape, t.quantization.dtype) for t in graph.tensors],
        [(t.quantization, None if t.data is None else t.data.tobytes()) for t in graph.tensors if t.index != index],
    ]


@pytest.mark.parametrize("outside", [False, True], ids=["inside", "weights-outside-the-flatbuffer"])
def test_data_goes_where_it_was_and_nothing_else_changes(outside: bool, blocks: IntegerPair) -> None:
    content = blocks.int8.read_bytes()
    content = with_weights_outside(content) if outside else content
    editor = GraphEditor(Graph(content, "m"))
    for place in (1, 2):  # weights, bias
        index = editor.graph.operators[0].inputs[place]
        before, data = editor.content, editor.graph.tensors[index].data
        assert data is not None
        changed = (data // 2 + 3).astype(data.dtype)
        editor.set_data(index, changed)
        assert len(editor.content) == len(before)
        differing = np.flatnonzero(np.frombuffer(before, np.uint8) != np.frombuffer(editor.content, np.uint8))
        assert differing.size > 0
        assert np.ptp(differing) < data.nbytes
        assert without_constant(editor.content, index) == without_constant(before, index)
        for graph in (editor.graph, Graph(editor.content, "m")):  # in memory and read anew
            found = graph.tensors[index].data
            assert found is not None
            np.testing.assert_array_equal(found, changed)


@pytest.mark.parametrize("zero_point", [None, [7]], ids=["scale", "scale-and-zero-point"])
def test_quantization(zero_point: list[int] | None, blocks: IntegerPair) -> None:
    content = blocks.int8.read_bytes()
    editor = GraphEditor(Graph(content, "m"))
    index = editor.graph.operators[2].outputs[0]
    old = editor.graph.tensors[index].quantization
    editor.set_quantization(index, [0.125], zero_point)
    assert len(editor.content) == len(content)
    assert without_constant(editor.content, index) == without_constant(content, index)
    for graph in (editor.graph, Graph(editor.content, "m")):
        found = graph.tensors[index].quantization
        assert found.scale == (0.125,)
        assert found.zero_point == (tuple(zero_point) if zero_point else old.zero_point)


def test_an_operator_run_alone_sees_what_was_written(blocks: IntegerPair) -> None:
    """Its bias set to 0 and to 50 steps of its output: the results differ by those."""
    from edgeq.graphs import OperatorRunner

    editor = GraphEditor(Graph(blocks.int8.read_bytes(), "m"))
    operator = editor.graph.operators[2]  # a linear bottleneck
    bias, kernel = (editor.graph.tensors[operator.inputs[i]] for i in (2, 1))
    source, made = (editor.graph.tensors[i].quantization for i in (operator.inputs[0], operator.outputs[0]))
    step = np.rint(50 * made.scale[0] / (source.scale[0] * np.asarray(kernel.quantization.scale))).astype(np.int32)
    image = np.zeros((1, 16, 16, 8), np.int8) + np.int8(source.zero_point[0])  # real zeros
    outputs = []
    for values in (0 * step, step):
        editor.set_data(bias.index, values)
        outputs.append(OperatorRunner(editor.graph, operator).run([image]).astype(int))
    np.testing.assert_array_equal(outputs[0], made.zero_point[0])
    np.testing.assert_array_equal(outputs[1], min(127, made.zero_point[0] + 50))


def test_what_two_tensors_or_two_operators_share_is_not_owned(blocks: IntegerPair) -> None:
    model = schema.ModelT.InitFromPackedBuf(blocks.int8.read_bytes(), 0)
    main = model.subgraphs[0]
    left, right = (o for o in main.operators if o.inputs[0] == main.operators[7].inputs[0] and len(o.inputs) == 3)
    weights, bias = left.inputs[1], left.inputs[2]
    editor = GraphEditor(Graph(pack_model(model, 0), "m"))
    assert all(editor.owns_data(i) for o in (left, right) for i in o.inputs[1:])
    main.tensors[right.inputs[1]].buffer = main.tensors[weights].buffer  # two tensors of one buffer
    right.inputs = np.array([right.inputs[0], right.inputs[1], bias])  # one tensor of two operators
    editor = GraphEditor(Graph(pack_model(model, 0), "m"))
    assert not any(editor.owns_data(int(i)) for o in (left, right) for i in o.inputs[1:])
    assert editor.owns_data(int(main.operators[0].inputs[1]))
