"""Float .tflite files as sources: quantized without TensorFlow, and refused where they cannot be."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, ROOT, IntegerPair, colour_picture

from edgeq.conversion import Conversion, convert
from edgeq.errors import EdgeqError, InputError, ModelError
from edgeq.runtime import Model
from edgeq.tflite.graph import Graph, load_schema, read_graph
from edgeq.tflite.metadata import read_metadata
from edgeq.tflite.packing import pack_model

pytest.importorskip("ai_edge_quantizer")


@pytest.fixture(scope="module")
def bare(colour_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour network's float file as another tool would write it: without metadata and signature."""
    graph = read_graph(colour_models / "colours_fp32.tflite")
    graph.model.metadata = None
    path = tmp_path_factory.mktemp("bare") / "colours_float.tflite"
    path.write_bytes(pack_model(graph.model, len(graph.content)))
    return path


@pytest.fixture(scope="module")
def made(bare: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Conversion:
    """All formats of the bare file."""
    return convert(
        bare,
        ("int8", "fp16", "dynamic", "int16x8"),
        tmp_path_factory.mktemp("made"),
        calibration=photos,
        count=20,
        normalize="-1..1",
        labels=tuple(COLOURS),
    )


def changed(source: Path, target: Path, change: Callable[[Graph], Any]) -> Path:
    """Write a copy of a model with a change of its tables."""
    graph = read_graph(source)
    change(graph)
    target.write_bytes(pack_model(graph.model, len(graph.content)))
    return target


class TestFormats:
    def test_every_format_names_the_colours(self, made: Conversion) -> None:
        assert list(made.models) == ["fp32", "int8", "fp16", "dynamic", "int16x8"]
        for file in made.models.values():
            model = Model(file.path)
            assert file.path.name == f"colours_{file.format}.tflite"
            for number, name in enumerate(COLOURS):
                assert model.labels[int(model.classify(colour_picture(name, 500 + number)).argmax())] == name

    def test_the_integer_file_is_integer_throughout_and_refined(self, made: Conversion) -> None:
        graph = read_graph(made.models["int8"].path)
        assert graph.dtypes(i for o in graph.operators for i in (*o.inputs, *o.outputs)) <= {"int8", "int32"}
        assert made.models["int8"].refinement is not None

    def test_the_others_hold_what_they_are_called_after(self, made: Conversion) -> None:
        def kinds(form: str) -> set[str]:
            graph = read_graph(made.models[form].path)
            return graph.dtypes(tensor.index for tensor in graph.tensors)

        assert "float16" in kinds("fp16")
        assert {"int8", "float32"} <= kinds("dynamic")
        assert {"int16", "int8"} <= kinds("int16x8")

    @pytest.mark.parametrize("io", ["uint8", "float32"])
    def test_other_types_at_the_ends(self, io: str, bare: Path, photos: Path, tmp_path: Path) -> None:
        made = convert(bare, "int8", tmp_path, calibration=photos, count=10, normalize="-1..1", io=io)
        model = Model(made.models["int8"].path)
        assert (model.input.quantization.dtype, model.output.quantization.dtype) == (io, io)
        if io == "uint8":
            assert model.input.quantization.real_range == pytest.approx((-1, 1), abs=0.01)
        for number, name in enumerate(COLOURS):
            assert list(COLOURS)[int(model.classify(colour_picture(name, 700 + number)).argmax())] == name

    def test_the_softmax_is_removed_on_request(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        made = convert(bare, "int8", tmp_path, calibration=photos, count=10, normalize="-1..1", logits=True)
        for file in made.models.values():
            assert Model(file.path).gives_logits
            assert "SOFTMAX" not in {operator.name for operator in read_graph(file.path).operators}
        with pytest.raises(EdgeqError, match=r"outputs logits already: it ends in FULLY_CONNECTED"):
            convert(made.models["fp32"].path, (), tmp_path / "more", logits=True)

    def test_the_keras_model_gives_the_same_result(
        self, colour_network: Path, made: Conversion, photos: Path, tmp_path: Path
    ) -> None:
        """Both are quantized with the same ranges and refined on the same images."""
        other = convert(colour_network, "int8", tmp_path, calibration=photos, count=20, normalize="-1..1")
        models = Model(made.models["int8"].path), Model(other.models["int8"].path)
        for path in sorted(photos.rglob("*.jpg"))[:10]:
            np.testing.assert_allclose(models[0].classify(path), models[1].classify(path), atol=2 / 256)


class TestFacts:
    def test_the_source_is_named(self, bare: Path, made: Conversion) -> None:
        for file in made.models.values():
            provenance = read_metadata(file.path).provenance
            assert provenance["parent"]["file"] == bare.name
            assert "ai-edge-quantizer" in provenance["tools"]
            assert "tensorflow" not in provenance["tools"]
        assert made.labels == tuple(COLOURS)

    def test_the_file_s_own_facts_are_used(self, made: Conversion, photos: Path, tmp_path: Path) -> None:
        """A file of edgeq states its normalization and labels."""
        again = convert(made.models["fp32"].path, "int8", tmp_path, calibration=photos, count=10)
        assert again.labels == tuple(COLOURS)
        assert again.preprocessing == made.preprocessing

    def test_twice_the_same_bytes(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        contents = []
        for turn in "ab":
            made = convert(bare, "int8", tmp_path / turn, calibration=photos, count=10, normalize="-1..1")
            contents.append([file.path.read_bytes() for file in made.models.values()])
        assert contents[0] == contents[1]

    def test_nothing_of_tensorflow_is_loaded(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        code = (
            "import sys, edgeq\n"
            "edgeq.convert(sys.argv[1], calibration=sys.argv[2], normalize='-1..1', count=10)\n"
            "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
        )
        command = [sys.executable, "-c", code, str(bare), str(photos)]
        done = subprocess.run(
            command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
        )
        assert (done.returncode, done.stdout, done.stderr) == (0, "[]\n", "")


class TestShapes:
    def test_an_open_batch_becomes_one(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        def open_batch(graph: Graph) -> None:
            for tensor in graph.tensors:
                if tensor.data is None:
                    shape = [-1, *tensor.shape[1:]]
                    graph.model.subgraphs[0].tensors[tensor.index].shapeSignature = np.array(shape, np.int32)

        source = changed(bare, tmp_path / "open.tflite", open_batch)
        made = convert(source, "int8", tmp_path / "out", calibration=photos, count=10, normalize="-1..1")
        for file in made.models.values():
            graph = read_graph(file.path)
            assert all(-1 not in graph.open_shape(tensor.index) for tensor in graph.tensors)

    def test_operators_that_compute_shapes_are_folded(self, photos: Path, tmp_path: Path) -> None:
        """Keras writes SHAPE, STRIDED_SLICE and PACK for a RESHAPE of an open batch."""
        tf = pytest.importorskip("tensorflow")
        kernel = tf.random.stateless_normal((3 * 16, 3), (0, 1))

        @tf.function(input_signature=[tf.TensorSpec((None, 8, 8, 3))])
        def network(x: Any) -> Any:
            x = tf.nn.avg_pool2d(x, 2, 2, "VALID")
            return tf.nn.softmax(tf.reshape(x, (tf.shape(x)[0], -1)) @ kernel)

        converter = tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()])
        source = tmp_path / "shapes.tflite"
        source.write_bytes(converter.convert())
        assert {"SHAPE", "PACK"} <= {operator.name for operator in read_graph(source).operators}
        made = convert(source, "int8", tmp_path / "out", calibration=photos, count=10, normalize="-1..1")
        for file in made.models.values():
            assert not {"SHAPE", "PACK", "STRIDED_SLICE"} & {o.name for o in read_graph(file.path).operators}
        pixels = np.asarray(colour_picture("red", 3).resize((8, 8)))
        expected = network(pixels[np.newaxis].astype(np.float32) / 127.5 - 1)[0]
        np.testing.assert_allclose(Model(made.models["fp32"].path).classify(pixels), expected, atol=1e-5)

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("layout", ["nhwc", "nchw"])
    def test_both_layouts_of_a_network_of_pytorch_s(self, layout: str, shared: Path, tmp_path: Path) -> None:
        flowers = shared / "data" / "flowers"
        source = shared / "models" / "torchvision" / f"mobilenet_v2_0.35_96_{layout}.tflite"
        made = convert(source, "int8", tmp_path, calibration=flowers, count=40, normalize="-1..1", labels=flowers)
        models = [Model(file.path) for file in made.models.values()]
        assert [model.layout for model in models] == [layout.upper()] * 2
        photos = sorted(flowers.rglob("*.jpg"))[::100]
        answers = np.array([[model.classify(photo).argmax() for photo in photos] for model in models])
        assert np.mean(answers[0] == answers[1]) > 0.9


class TestRefused:
    @pytest.fixture(autouse=True)
    def earlier(self, tmp_path: Path) -> Any:
        """A file that an earlier run wrote stays as it is."""
        earlier = tmp_path / "models" / "net_int8.tflite"
        earlier.parent.mkdir()
        earlier.write_bytes(b"earlier")
        yield
        assert [path.name for path in earlier.parent.iterdir()] == [earlier.name]
        assert earlier.read_bytes() == b"earlier"

    def refused(self, source: Path, tmp_path: Path, photos: Path, **settings: Any) -> str:
        settings = {"normalize": "-1..1", "calibration": photos, "count": 10, **settings}
        with pytest.raises(EdgeqError) as caught:
            convert(source, "int8", tmp_path / "models", **settings)
        message = str(caught.value)
        assert "\n" not in message
        return message

    def test_a_file_that_is_quantized_already(self, colour_models: Path, photos: Path, tmp_path: Path) -> None:
        message = self.refused(colour_models / "colours_int8.tflite", tmp_path, photos)
        assert "is quantized already: its operator 0 (DEPTHWISE_CONV_2D) works on int8; give the float model" in message

    def test_eight_bit_weights(self, tmp_path: Path, photos: Path, shared: Path) -> None:
        source = shared / "models" / "mlcommons_tiny" / "kws_ref_model_float32.tflite"
        assert "has 8-bit weights (dynamic-range quantization)" in self.refused(source, tmp_path, photos)

    def test_float16_weights(self, made: Conversion, photos: Path, tmp_path: Path) -> None:
        assert "has float16 weights; give the float32 model" in self.refused(made.models["fp16"].path, tmp_path, photos)

    def test_no_normalization(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        message = self.refused(bare, tmp_path, photos, normalize=None)
        assert message.startswith(f"{bare}: does not say how its input is normalized; give what it was trained with: -")

    def test_no_such_file(self, photos: Path, tmp_path: Path) -> None:
        assert "no such model" in self.refused(tmp_path / "none.tflite", tmp_path, photos)

    def test_another_size(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        message = self.refused(bare, tmp_path, photos, size=(64, 48))
        assert message.endswith("is made for 32x32 pixels, not 48x64; omit --res")

    def test_a_batch_of_four(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        def four(graph: Graph) -> None:
            for tensor in graph.tensors:
                if tensor.data is None:
                    shape = np.array([4, *tensor.shape[1:]], np.int32)
                    graph.model.subgraphs[0].tensors[tensor.index].shape = shape

        source = changed(bare, tmp_path / "four.tflite", four)
        assert "takes batches of 4; export it with a batch of 1" in self.refused(source, tmp_path, photos)

    def test_a_custom_operator(self, bare: Path, photos: Path, tmp_path: Path) -> None:
        def custom(graph: Graph) -> None:
            code = graph.model.operatorCodes[0]
            code.builtinCode = code.deprecatedBuiltinCode = load_schema().BuiltinOperator.CUSTOM
            code.customCode = b"NumericVerify"

        source = changed(bare, tmp_path / "custom.tflite", custom)
        assert "has the custom operator NumericVerify" in self.refused(source, tmp_path, photos)

    def test_an_operator_that_cannot_be_quantized(self, photos: Path, tmp_path: Path) -> None:
        """It is named, and the way out too."""
        tf = pytest.importorskip("tensorflow")

        @tf.function(input_signature=[tf.TensorSpec((1, 8, 8, 3))])
        def network(x: Any) -> Any:
            x = tf.nn.conv2d(-x, tf.ones((3, 3, 3, 4)), 1, "SAME")
            return tf.nn.softmax(tf.reduce_mean(-x, axis=(1, 2)))

        source = tmp_path / "minus.tflite"
        source.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()]).convert())
        message = self.refused(source, tmp_path, photos)
        assert "it is not full-integer, these operators stayed in float: NEG (float32)" in message
        assert "--keep-float unsupported" in message

    def test_the_source_is_not_overwritten(self, made: Conversion, photos: Path) -> None:
        source = made.models["fp32"].path
        before = source.read_bytes()
        with pytest.raises(InputError, match=r"is the source itself; give another folder with --out"):
            convert(source, "int8", source.parent, calibration=photos, count=10)
        assert source.read_bytes() == before

    def test_without_the_quantizer(
        self, bare: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "ai_edge_quantizer", None)
        message = self.refused(bare, tmp_path, photos)
        assert message == "this needs ai-edge-quantizer, which is not installed: pip install 'edgeq[quantize]'"


class TestBiases:
    """ai-edge-quantizer clips a bias that does not fit into int32; such a channel's weight scale is raised."""

    @pytest.fixture(scope="class")
    def tiny_channel(self, blocks: IntegerPair, tmp_path_factory: pytest.TempPathFactory) -> Path:
        """A network with a channel of tiny weights and a large bias."""

        def shrink(graph: Graph) -> None:
            layer = graph.operators[2]
            main = graph.model.subgraphs[0]
            for index, change in ((layer.inputs[1], "weights"), (layer.inputs[2], "bias")):
                buffer = graph.model.buffers[main.tensors[index].buffer]
                values = np.frombuffer(bytes(buffer.data), np.float32).copy().reshape(graph.tensors[index].shape)
                values[1] = values[1] * 1e-9 if change == "weights" else 3.0
                buffer.data = np.frombuffer(values.tobytes(), np.uint8)

        return changed(blocks.fp32, tmp_path_factory.mktemp("tiny") / "tiny_float.tflite", shrink)

    @pytest.mark.parametrize("refine", [True, False], ids=["refined", "unrefined"])
    def test_it_fits(self, refine: bool, tiny_channel: Path, blocks: IntegerPair, tmp_path: Path) -> None:
        spec = Model(blocks.fp32).preprocessing
        made = convert(
            tiny_channel, "int8", tmp_path, count=20, normalize=f"{spec.mean[0]}/{spec.std[0]}", refine=refine
        )
        float_graph, graph = (read_graph(made.models[form].path) for form in ("fp32", "int8"))
        layer, reference = graph.operators[2], float_graph.operators[2]
        bias = graph.tensors[layer.inputs[2]]
        assert bias.data is not None
        assert abs(int(bias.data[1])) < 1 << 30
        assert bias.dequantize()[1] == pytest.approx(float_graph.tensors[reference.inputs[2]].dequantize()[1], rel=0.1)
        scale = graph.tensors[layer.inputs[1]].quantization.scale
        expected = graph.tensors[layer.inputs[0]].quantization.scale[0] * np.asarray(scale)
        np.testing.assert_allclose(bias.quantization.scale, expected, rtol=1e-6)


def test_the_command(bare: Path, photos: Path, tmp_path: Path) -> None:
    """From file to files, and its JSON is true."""
    command = [sys.executable, "-m", "edgeq", "convert", str(bare), "--int8", "--normalize", "-1..1"]
    command += ["--calib", str(photos), "--calib-count", "10", "--out", "made"]
    done = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "made/colours_int8.tflite" in done.stdout
    assert json.loads(json.dumps(read_metadata(tmp_path / "made" / "colours_int8.tflite").provenance))["io"] == "int8"


def test_a_damaged_file(bare: Path, tmp_path: Path) -> None:
    source = tmp_path / "cut.tflite"
    source.write_bytes(bare.read_bytes()[:900])
    with pytest.raises(ModelError, match=r"cut\.tflite: "):
        convert(source, (), tmp_path)
