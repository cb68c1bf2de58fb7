"""Damaged and hostile models are refused with one sentence that names what is wrong, before any runtime sees them."""

from __future__ import annotations

import random
import struct
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, IntegerPair

from edgeq.errors import ModelError
from edgeq.tflite.checking import check_content, check_file
from edgeq.tflite.operators import ARITIES, OPERATORS
from edgeq.tflite.packing import pack_model
from edgeq.tflite.task import read_task

sys.path.append(str(ROOT / "scripts"))
from mutations import Subject
from small_models import Graph, Op, T, build, endless_loop, far_write, much_memory, pack, schema

FLEX = pytest.importorskip("flatbuffers.flexbuffers")
INT_MAX = 2**31 - 1


def convolution(depthwise: bool = False, channels: int = 3, bias: int = 4) -> Any:
    """A model of one convolution."""
    name = "DEPTHWISE_CONV_2D" if depthwise else "CONV_2D"
    options = schema.DepthwiseConv2DOptionsT() if depthwise else schema.Conv2DOptionsT()
    options.strideW = options.strideH = 1
    weights = T((1, 3, 3, 4) if depthwise else (4, 3, 3, channels), data=1)
    tensors = [T((1, 8, 8, channels)), weights, T((bias,), data=0), T((1, 8, 8, 4))]
    return build(Graph(tensors, [Op(name, [0, 1, 2], [3], options)], [0], [3]))


def change(**path_and_value: Any) -> Callable[[], Any]:
    """Return a function that makes a convolution with one attribute changed: ``tensors_0_shape=[...]``."""

    def make() -> Any:
        model = convolution()
        for path, value in path_and_value.items():
            target = model if path.startswith(("buffers", "operatorCodes")) else model.subgraphs[0]
            *steps, last = path.split("_")
            for step in steps:
                target = target[int(step)] if step.isdigit() else getattr(target, step)
            if last.isdigit():
                target[int(last)] = value
            else:
                setattr(target, last, np.array(value, np.int32) if isinstance(value, list) else value)
        return model

    return make


def quantized(scale: list[float], zero_point: list[int], axis: int = 0) -> Callable[[], Any]:
    def make() -> Any:
        model = convolution()
        tensor = model.subgraphs[0].tensors[1]
        tensor.type = schema.TensorType.INT8
        model.buffers[tensor.buffer].data = model.buffers[tensor.buffer].data[: 4 * 3 * 3 * 3]
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale = np.array(scale, np.float32)
        tensor.quantization.zeroPoint = np.array(zero_point, np.int64)
        tensor.quantization.quantizedDimension = axis
        return model

    return make


def small(tensors: list[T], *operators: Op, inputs: tuple[int, ...] = (0,), outputs: tuple[int, ...]) -> Any:
    return build(Graph(tensors, operators, inputs, outputs))


def detection(**options: int) -> Any:
    """The custom operator that makes boxes of a detector's outputs."""
    defaults = {"max_detections": 10, "max_classes_per_detection": 1, "num_classes": 90}
    packed = bytes(FLEX.Dumps(defaults | options))
    tensors = [T((1, 20, 4)), T((1, 20, 91)), T((20, 4), data=1), T((1, 10, 4)), T((1, 10)), T((1, 10)), T((1,))]
    operator = Op("CUSTOM", [0, 1, 2], [3, 4, 5, 6], None, "TFLite_Detection_PostProcess", packed)
    return small(tensors, operator, inputs=(0, 1), outputs=(3, 4, 5, 6))


def recursive() -> Any:
    loop = schema.WhileOptionsT()
    loop.condSubgraphIndex, loop.bodySubgraphIndex = 1, 1
    graph = Graph([T((1,)), T((1,))], [Op("WHILE", [0], [1], loop)], [0], [1])
    return build(graph, graph)


def calls(index: int) -> Any:
    once = schema.CallOnceOptionsT()
    once.initSubgraphIndex = index
    return small([T((1,))], Op("CALL_ONCE", [], [], once), outputs=(0,))


def far_options() -> Any:
    model = convolution()
    model.subgraphs[0].operators[0].largeCustomOptionsOffset = 2**64 - 256
    model.subgraphs[0].operators[0].largeCustomOptionsSize = 512
    return model


def reshape(shape: list[int]) -> Any:
    new = T((len(shape),), "int32", shape)
    options = schema.ReshapeOptionsT()
    return small([T((1,)), T((1,), data=1), new, T((1,))], Op("RESHAPE", [1, 2], [3], options), outputs=(3,))


def sparse() -> Any:
    model = convolution()
    sparsity = schema.SparsityParametersT()
    sparsity.traversalOrder, sparsity.dimMetadata = [0, 1, 2, 9], []
    model.subgraphs[0].tensors[1].sparsity = sparsity
    return model


PUBLISHED = {
    "CVE-2021-29602": (lambda: convolution(depthwise=True, channels=0), r"DEPTHWISE_CONV_2D.* has a dimension of 0"),
    "CVE-2021-29604": (
        lambda: small(
            [T((1,), "int32"), T((0,), "int32"), T((0, 4)), T((1, 4)), T((1,), "uint8")],
            Op("HASHTABLE_LOOKUP", [0, 1, 2], [3, 4]),
            outputs=(3, 4),
        ),
        "HASHTABLE_LOOKUP.* has a dimension of 0",
    ),
    "CVE-2021-37688": (change(tensors_1_buffer=0), r"operator 0 \(CONV_2D\) reads tensor 1, which no operator before"),
    "CVE-2022-23557": (lambda: convolution(bias=0), r"CONV_2D.* reads tensor 2, which has a dimension of 0"),
    "tensorflow 60623": (change(operators_0_inputs=[0, 512, 2]), r"operator 0 \(CONV_2D\) reads tensor 512, but "),
    "tensorflow 62159, into a constant": (
        lambda: small([T((4,)), T((4,), data=0)], Op("RELU6", [0], [1]), outputs=(1,)),
        r"RELU6\) writes tensor 1, which is a constant",
    ),
    "tensorflow 62159, into a smaller type": (
        lambda: small([T((4,)), T((4,), "int8")], Op("RELU6", [0], [1]), outputs=(1,)),
        "RELU6.* writes another type than it reads",
    ),
    "tensorflow 62164": (lambda: small([T((1,)), T((1,))], Op("RESHAPE", [-1], [1]), outputs=(1,)), "its input 0"),
    "tensorflow 116632, a buffer": (
        change(buffers_1_offset=2**64 - 128, buffers_1_size=128, buffers_1_data=None),
        "buffer 1 ends at byte 18446744073709551616, but the file has ",
    ),
    "tensorflow 116632, options": (far_options, "an operator's options end at byte 18446744073709551872"),
    "tensorflow 111458": (change(tensors_0_shape=[1, INT_MAX, 8, 3]), "tensor 0 has the shape 1x2147483647x8x3"),
    "tensorflow 111638": (
        lambda: detection(max_detections=65536, max_classes_per_detection=65536),
        "TFLite_Detection_PostProcess.* more detections than it can count",
    ),
    "tensorflow 124982": (lambda: reshape([1] * 11 + [22]), "RESHAPE.* gives tensor 1 a shape of another size"),
}  # fmt: skip


def refuse(content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message) as caught:
        check_content(content, "m.tflite")
    assert str(caught.value).startswith("m.tflite: ")
    assert "\n" not in str(caught.value)


class TestPublishedFaults:
    """Each is rebuilt from its description; the sentence names the operator or the tensor."""

    @pytest.mark.parametrize("name", PUBLISHED)
    def test_is_refused(self, name: str) -> None:
        make, message = PUBLISHED[name]
        refuse(pack_model(make(), 4096), message)

    def test_a_file_of_8_bytes(self) -> None:
        """tensorflow 115308."""
        refuse(struct.pack("<I", 8) + b"TFL3", "its root is not within the file")

    @pytest.mark.parametrize(
        "make",
        [convolution, lambda: convolution(depthwise=True), detection, lambda: reshape([1, 1]), lambda: reshape([-1])],
    )
    def test_the_same_models_undamaged_pass(self, make: Callable[[], Any]) -> None:
        check_content(pack_model(make(), 4096), "m.tflite")


class TestRules:
    @pytest.mark.parametrize(
        ("make", "message"),
        [
            pytest.param(change(version=4), "", id="nothing-wrong"),
            pytest.param(
                change(tensors_1_buffer=9), "tensor 1 is in buffer 9, but the model has 3 buffers", id="buffer"
            ),
            pytest.param(change(operators_0_opcodeIndex=7), "operator 0 has type 7, but the model has 1", id="code"),
            pytest.param(change(operators_0_inputs=[0]), "CONV_2D.* has 1 inputs, not 2 to 3", id="inputs"),
            pytest.param(change(operators_0_inputs=[0, -1, 2]), "CONV_2D.* lacks its input 1", id="absent-input"),
            pytest.param(change(operators_0_outputs=[9]), "writes tensor 9, but the model has 4 tensors", id="output"),
            pytest.param(change(operators_0_outputs=[0]), "writes tensor 0, which is a constant or an", id="in-place"),
            pytest.param(change(operators_0_builtinOptions=None), "CONV_2D.* lacks its options", id="no-options"),
            pytest.param(change(operators_0_builtinOptions_strideW=0), "CONV_2D.* has stride_w 0", id="stride"),
            pytest.param(change(operators_0_builtinOptions_padding=7), "CONV_2D.* has padding 7", id="padding"),
            pytest.param(change(inputs=[4]), "its input is tensor 4, but the model has 4 tensors", id="graph-input"),
            pytest.param(change(outputs=[-1]), "its output is tensor -1", id="graph-output"),
            pytest.param(change(tensors_0_shape=[1, -8, 8, 3]), "tensor 0 has the shape 1x-8x8x3", id="negative"),
            pytest.param(change(tensors_1_shape=[4, 3, 3, 4]), "needs 576 bytes, but has 432", id="size"),
            pytest.param(change(tensors_0_shapeSignature=[-1, -1]), "but the signature -1x-1", id="signature"),
            pytest.param(change(tensors_0_type=99), "tensor 0 has the type 99", id="type"),
            pytest.param(change(tensors_3_type=13), "", id="a-resource-has-no-size"),
            pytest.param(quantized([0.1] * 4, [0] * 4), "", id="per-channel"),
            pytest.param(quantized([0.1] * 4, []), "", id="no-zero-points"),
            pytest.param(quantized([0.1] * 3, [0] * 3), "has 3 scales along dimension 0", id="scales"),
            pytest.param(quantized([0.1] * 4, [0] * 4, 5), "has 4 scales along dimension 5", id="dimension"),
            pytest.param(quantized([0.1] * 4, [0]), "has 4 scales, but 1 zero points", id="zero-points"),
            pytest.param(quantized([float("nan")], [0]), "tensor 1 has the scale nan", id="nan"),
            pytest.param(quantized([-1.0], [0]), "tensor 1 has the scale -1.0", id="negative-scale"),
            pytest.param(sparse, "tensor 1 is sparse, but its order of traversal", id="sparse"),
            pytest.param(recursive, "subgraph 1 runs itself", id="recursion"),
            pytest.param(lambda: calls(3), "CALL_ONCE.* runs subgraph 3, but the model has 1 subgraphs", id="call"),
            pytest.param(lambda: calls(0), "subgraph 0 runs itself", id="self-call"),
        ],
    )
    def test_one_change(self, make: Callable[[], Any], message: str) -> None:
        content = pack_model(make(), 4096)
        if message:
            refuse(content, message)
        else:
            check_content(content, "m.tflite")

    def test_a_tensor_that_is_read_before_it_is_computed(self) -> None:
        relus = [Op("RELU", [2], [1]), Op("RELU", [0], [2])]
        refuse(
            pack(Graph([T((4,))] * 3, relus, [0], [1])), r"operator 0 \(RELU\) reads tensor 2, which no operator before"
        )

    def test_a_tensor_that_is_computed_twice(self) -> None:
        relus = [Op("RELU", [0], [1]), Op("RELU", [0], [1])]
        refuse(
            pack(Graph([T((4,))] * 2, relus, [0], [1])), r"operator 1 \(RELU\) writes tensor 1, which an operator bef"
        )

    def test_an_output_that_nothing_computes(self) -> None:
        refuse(pack(Graph([T((4,))] * 2, [], [0], [1])), "no operator computes its output, tensor 1")

    @pytest.mark.parametrize("make", [endless_loop, far_write, much_memory])
    def test_what_only_a_run_shows_passes(self, make: Callable[[], bytes]) -> None:
        """The trial finds these, see tests/runtime/test_admission.py."""
        check_content(make(), "m.tflite")

    def test_operators_are_those_of_the_schema(self) -> None:
        numbers = {n: k for k, n in vars(schema.BuiltinOperator).items() if not k.startswith("_")}
        assert [numbers[number] for number in range(len(OPERATORS))] == list(OPERATORS)
        assert set(ARITIES) <= set(OPERATORS)


class TestRealModels:
    def test_models_of_others_pass(self, shared: Path) -> None:
        paths = sorted((shared / "models").rglob("*.tflite"))
        assert len(paths) >= 12
        for path in paths:
            check_file(path)

    def test_our_own_pass(self, colour_models: Path, blocks: IntegerPair) -> None:
        for path in (*colour_models.glob("*.tflite"), blocks.fp32, blocks.int8):
            facts = check_content(path.read_bytes(), path)
            assert facts.multiply_adds > 1000
            assert facts.activation_bytes > 1000
            assert not facts.custom_operators

    def test_the_costs_are_those_of_inspect(self, mobilenet_models: Path) -> None:
        from edgeq.inspection import inspect

        path = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
        inspected, facts = inspect(path), check_content(path.read_bytes(), path)
        assert inspected.multiply_adds <= facts.multiply_adds < 1.2 * inspected.multiply_adds
        assert facts.peak_activation_bytes == inspected.peak_activation_bytes < facts.activation_bytes / 3


class TestFiles:
    def test_a_pipe_is_not_waited_for(self, tmp_path: Path) -> None:
        import os

        os.mkfifo(tmp_path / "m.tflite")
        with pytest.raises(ModelError, match="not a regular file"):
            check_file(tmp_path / "m.tflite")

    @pytest.mark.parametrize("seed", range(4))
    def test_mutants_are_accepted_or_refused_by_every_reader(
        self, seed: int, blocks: IntegerPair, tmp_path: Path
    ) -> None:
        """And nothing else happens: 150 for each seed, through what reads the tables in Python."""
        from edgeq.inspection import inspect

        rng = random.Random(seed)
        subject = Subject((blocks.int8, blocks.fp32)[seed % 2].read_bytes())
        refused = 0
        for number in range(150):
            _, content = subject.mutant(rng)
            path = tmp_path / f"{number}.tflite"
            path.write_bytes(content)
            try:
                read_task(path)
                inspect(path)
            except ModelError as error:
                refused += 1
                assert "\n" not in str(error)  # noqa: PT017 (whether it raises depends on the mutant)
        assert 20 < refused < 140
