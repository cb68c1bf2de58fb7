"""Operators run alone give what they give inside the whole model."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import IntegerPair

from edgeq.calibration import choose_images, shipped_images
from edgeq.conversion import convert_network
from edgeq.errors import ModelError
from edgeq.graphs import OperatorRunner, TappedRunner, running
from edgeq.networks import Network, build_network, open_network
from edgeq.preprocessing import Preprocessing
from edgeq.tflite.graph import Graph, read_graph

pytest.importorskip("tensorflow")
Interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
IMAGES = 5


@pytest.fixture(scope="module")
def models(blocks: IntegerPair, blocks_network: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Float and integer files, also with other types at their ends, and a MobileNetV3."""
    found = {"fp32": blocks.fp32, "int8": blocks.int8}
    out = tmp_path_factory.mktemp("running")

    def write(name: str, network: Network, io: str = "int8") -> dict[str, Path]:
        """Convert a network, without refining."""
        preprocessing = network.preprocessing or Preprocessing(32, 32, crop=1.0)
        chosen = choose_images(shipped_images(), preprocessing, count=10)
        made = convert_network(network, preprocessing, ["int8"], out / name, calibration=chosen, io=io, refine=False)
        return {model.format: model.path for model in made}

    for io in ("uint8", "float32"):
        found[f"{io}-ends"] = write(io, open_network(blocks_network), io)["int8"]
    network = build_network("mobilenet_v3_small", 32, 32, alpha=0.35, classes=10, weights="none")
    made = write("v3", network)
    found |= {"v3-fp32": made["fp32"], "v3-int8": made["int8"]}
    return found


def some_input(graph: Graph, images: int = IMAGES) -> np.ndarray:
    tensor = graph.tensors[graph.inputs[0]]
    rng = np.random.default_rng(0)
    shape = (images, *tensor.shape[1:])
    if tensor.quantization.dtype == "float32":
        return rng.uniform(-1, 1, shape).astype(np.float32)
    limits = np.iinfo(tensor.quantization.dtype)
    return rng.integers(limits.min, limits.max + 1, shape).astype(tensor.quantization.dtype)


def inner_tensors(path: Path, images: np.ndarray) -> dict[int, np.ndarray]:
    """All activations as the interpreter has them after running the whole model, image by image."""
    interpreter: Any = Interpreter(model_path=str(path), experimental_preserve_all_tensors=True)
    interpreter.allocate_tensors()
    graph = read_graph(path)
    found: dict[int, list[np.ndarray]] = {index: [] for index in (*graph.inputs, *graph.producers)}
    for image in images:
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image[np.newaxis])
        interpreter.invoke()
        for index, values in found.items():
            values.append(interpreter.get_tensor(index).copy())
    return {index: np.concatenate(values) for index, values in found.items()}


MODELS = ("int8", "uint8-ends", "float32-ends", "v3-int8", "fp32", "v3-fp32")


class TestOneOperator:
    @pytest.mark.parametrize("name", MODELS)
    def test_one_after_the_other_they_are_the_whole_model(self, name: str, models: dict[str, Path]) -> None:
        graph = read_graph(models[name])
        images = some_input(graph)
        expected = inner_tensors(models[name], images)
        values = {graph.inputs[0]: images}
        for operator in graph.operators:
            runner = OperatorRunner(graph, operator)
            (output,) = operator.outputs
            values[output] = runner.run([values[index] for index in runner.inputs])
            if graph.tensors[output].quantization.dtype == "float32":
                scale = np.abs(expected[output]).max()
                np.testing.assert_allclose(values[output], expected[output], atol=1e-5 * scale, err_msg=operator.name)
            else:
                np.testing.assert_array_equal(values[output], expected[output], operator.name)
            assert values[output].dtype == expected[output].dtype
        assert len({*map(bytes, values[graph.operators[-2].outputs[0]])}) > 1  # not all images gave the same

    def test_the_models_hold_what_is_tested(self, models: dict[str, Path]) -> None:
        kinds = {name: [operator.name for operator in read_graph(path).operators] for name, path in models.items()}
        for name in ("float32-ends", "uint8-ends"):
            assert kinds[name][0] == "QUANTIZE"
        assert kinds["float32-ends"][-1] == "DEQUANTIZE"
        assert kinds["uint8-ends"][-1] == "QUANTIZE"
        assert {"HARD_SWISH", "MUL", "MEAN"} <= {*kinds["v3-int8"]}

    @pytest.mark.parametrize(("chunk", "batches"), [(1, {1}), (2, {1}), (3, {3, 2}), (4, {4, 1}), (5, {5}), (6, {5})])
    def test_whatever_number_is_run_at_a_time(
        self, chunk: int, batches: set[int], blocks: IntegerPair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        graph = read_graph(blocks.int8)
        images = some_input(graph)
        first = graph.operators[0]
        whole = OperatorRunner(graph, first).run([images])
        item_bytes = images[0].nbytes + whole[0].nbytes
        monkeypatch.setattr(running, "_CHUNK_BYTES", chunk * item_bytes)
        room = np.full_like(whole, 99)
        runner = OperatorRunner(graph, first)
        assert runner.run_all([images], [room])[0] is room
        np.testing.assert_array_equal(room, whole)
        assert set(runner._interpreters) == batches  # equal ones, unless those would be less than half

    def test_what_the_kernel_refuses_is_an_error_that_names_it(self, blocks: IntegerPair) -> None:
        graph = read_graph(blocks.int8)
        runner = OperatorRunner(graph, graph.operators[0])
        with pytest.raises(ModelError, match=r"blocks_int8.tflite, operator 0 CONV_2D: running it failed") as caught:
            runner.run([np.zeros((2, 31, 32, 3), np.int8)])
        assert "\n" not in str(caught.value)


class TestTapped:
    @pytest.mark.parametrize("name", ["int8", "float32-ends", "fp32"])
    def test_inner_tensors_are_the_whole_model_s(self, name: str, models: dict[str, Path]) -> None:
        graph = read_graph(models[name])
        images = some_input(graph, 2)
        expected = inner_tensors(models[name], images)
        runner = TappedRunner(graph, [*graph.producers, *graph.inputs, *graph.outputs])
        for number, image in enumerate(images):
            found = {index: values.copy() for index, values in runner.run(image[np.newaxis]).items()}
            assert set(found) == set(expected)
            for index, values in found.items():
                np.testing.assert_allclose(values[0], expected[index][number], atol=1e-5 if name == "fp32" else 0)

    def test_a_wrong_input_is_an_error(self, blocks: IntegerPair) -> None:
        graph = read_graph(blocks.int8)
        with pytest.raises(ModelError, match=r"blocks_int8\.tflite: running the model failed"):
            TappedRunner(graph, graph.outputs).run(np.zeros((1, 8, 8, 3), np.int8))
