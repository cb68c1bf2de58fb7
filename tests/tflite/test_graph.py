"""What a .tflite file is read as, against what the interpreter says of the same file."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import IntegerPair
from graphs import assert_same_data, with_weights_outside

from edgeq.errors import ModelError
from edgeq.runtime.backends import make_interpreter
from edgeq.tflite.archive import split
from edgeq.tflite.graph import read_graph
from edgeq.tflite.packing import pack_model

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

SHARED_MODELS = [
    "coral/tf2_mobilenet_v2_1.0_224_ptq.tflite",
    "coral/mobilenet_v2_1.0_224_quant.tflite",
    "mlcommons_tiny/vww_96_float.tflite",
    "mlcommons_tiny/vww_96_int8.tflite",
    "mlcommons_tiny/pretrainedResnet_quant.tflite",
    "tflm/person_detect.tflite",
]


def check_against_the_interpreter(path: Path) -> None:
    graph = read_graph(path)
    _, interpreter = make_interpreter(path, "ai-edge-litert")
    assert graph.inputs == tuple(int(d["index"]) for d in interpreter.get_input_details())
    assert graph.outputs == tuple(int(d["index"]) for d in interpreter.get_output_details())
    details = {int(d["index"]): d for d in interpreter.get_tensor_details()}
    assert len(graph.tensors) > 0
    for tensor in graph.tensors:
        found = details[tensor.index]
        assert (tensor.name, tensor.shape) == (found["name"], tuple(found["shape"])), tensor.index
        assert tensor.quantization.dtype == np.dtype(found["dtype"]).name
        parameters = found["quantization_parameters"]
        if tensor.quantization.scale:
            # One scale of a FULLY_CONNECTED is repeated by the interpreter for each channel.
            scales, repeated = np.broadcast_arrays(
                np.asarray(tensor.quantization.scale, np.float32), parameters["scales"]
            )
            np.testing.assert_array_equal(scales, repeated)
            zeros, repeated = np.broadcast_arrays(tensor.quantization.zero_point, parameters["zero_points"])
            np.testing.assert_array_equal(zeros, repeated)
            if len(tensor.quantization.scale) > 1 and len(tensor.shape) > 1:
                assert tensor.quantization.axis == parameters["quantized_dimension"]
        else:
            assert not parameters["scales"].any()
        if tensor.data is not None:
            np.testing.assert_array_equal(tensor.data, interpreter.get_tensor(tensor.index))
    operators = interpreter._get_ops_details()[: len(graph.operators)]  # what is behind them, delegates added
    for operator, found in zip(graph.operators, operators, strict=True):
        assert operator.name == found["op_name"]
        assert operator.inputs == tuple(int(i) for i in found["inputs"])
        assert operator.outputs == tuple(int(i) for i in found["outputs"])


class TestReading:
    @pytest.mark.parametrize("form", ["fp32", "int8"])
    def test_says_what_the_interpreter_says(self, form: str, blocks: IntegerPair) -> None:
        check_against_the_interpreter(getattr(blocks, form))

    @pytest.mark.parametrize("name", SHARED_MODELS)
    def test_of_published_models_too(self, name: str, shared: Path) -> None:
        check_against_the_interpreter(shared / "models" / name)

    def test_constants_outside_the_flatbuffer(self, blocks: IntegerPair, tmp_path: Path) -> None:
        path = tmp_path / "outside.tflite"
        path.write_bytes(with_weights_outside(blocks.int8.read_bytes()))
        check_against_the_interpreter(path)
        for tensor, same in zip(read_graph(path).tensors, read_graph(blocks.int8).tensors, strict=True):
            assert_same_data(tensor, same)

    def test_makers_and_consumers_are_each_other_s_inverse(self, blocks: IntegerPair) -> None:
        graph = read_graph(blocks.int8)
        for operator in graph.operators:
            assert all(operator in graph.consumers[index] for index in operator.inputs)
            assert all(graph.producers[index] is operator for index in operator.outputs)
        assert set(graph.producers) | {*graph.inputs} == {
            t.index for t in graph.tensors if not graph.is_constant(t.index)
        }

    def test_weights_as_real_numbers(self, blocks: IntegerPair) -> None:
        """Per channel, within half a step of the float file's."""
        exact, rounded = (
            graph.tensors[graph.operators[0].inputs[1]] for graph in map(read_graph, (blocks.fp32, blocks.int8))
        )
        assert len(rounded.quantization.scale) == rounded.shape[0] == 8
        steps = (
            np.abs(rounded.dequantize() - exact.dequantize()).reshape(8, -1).max(axis=1) / rounded.quantization.scale
        )
        assert 0.1 < steps.max() <= 0.5 + 1e-4


class TestErrors:
    @pytest.mark.parametrize(
        ("damage", "message"),
        [
            pytest.param(lambda content: b"", "not a TFLite model", id="empty"),
            pytest.param(lambda content: b"P6 5 5 255 " + bytes(75), "not a TFLite model", id="a-picture"),
            pytest.param(lambda content: content[:8], "damaged", id="cut-after-the-identifier"),
            pytest.param(lambda content: content[:2000], "damaged", id="cut-off"),
            pytest.param(lambda content: content[:-100], "damaged", id="end-missing"),
            pytest.param(lambda content: b"\xff" * 4 + content[4:], "damaged", id="root-far-away"),
            pytest.param(lambda content: content[:8] + bytes(len(content) - 8), "damaged", id="zeros"),
        ],
    )
    def test_files_that_are_no_model(
        self, damage: Callable[[bytes], bytes], message: str, blocks: IntegerPair, tmp_path: Path
    ) -> None:
        path = tmp_path / "odd.tflite"
        path.write_bytes(damage(split(blocks.int8.read_bytes(), blocks.int8)[0]))
        self.check(path, message)

    def check(self, path: Path, message: str) -> None:
        with pytest.raises(ModelError, match=message) as caught:
            read_graph(path)
        assert str(caught.value).startswith(str(path))
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("change", ["opcode", "tensor", "shape"])
    def test_tables_that_point_nowhere(self, change: str, blocks: IntegerPair, tmp_path: Path) -> None:
        model: Any = schema.ModelT.InitFromPackedBuf(blocks.int8.read_bytes(), 0)
        main = model.subgraphs[0]
        if change == "opcode":
            main.operators[1].opcodeIndex = 99
        elif change == "tensor":
            main.tensors[1].buffer = 999
        else:
            main.tensors[main.operators[0].inputs[1]].shape = np.array([3, 3], np.int32)
        path = tmp_path / "odd.tflite"
        path.write_bytes(pack_model(model, 0))
        self.check(path, "damaged")

    def test_no_file(self, tmp_path: Path) -> None:
        self.check(tmp_path / "none.tflite", "no such model file")

    def test_a_folder(self, tmp_path: Path) -> None:
        self.check(tmp_path, "cannot read the model")
