"""From a network to files: what is in them, that they are always the same, and what happens on failure."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, ROOT, Finished, IntegerPair, colour_picture

import edgeq as package
from edgeq.calibration import CalibrationSet, choose_images, shipped_images
from edgeq.conversion import FORMATS, IO_TYPES, ConvertedModel, convert_network
from edgeq.errors import ConversionError, InputError
from edgeq.networks import Network, open_network
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing
from edgeq.refinement import refine_model
from edgeq.runtime import Model
from edgeq.tflite.archive import split
from edgeq.tflite.graph import Graph, Operator, read_graph
from edgeq.tflite.metadata import read_metadata

keras = pytest.importorskip("keras")
tf = pytest.importorskip("tensorflow")

COLOURS_INPUT = Preprocessing(32, 32, crop=1.0)


@pytest.fixture(scope="module")
def calibration(photos: Path) -> CalibrationSet:
    return choose_images(photos, COLOURS_INPUT, count=12)


def small_network(name: str, middle: Callable[[Any], Any] = lambda x: x, classes: int = 3) -> Network:
    """A convolution, `middle`, average pooling and a classifier, on 32x32 pixels."""
    rng = np.random.default_rng(0)
    kernel = tf.Variable(rng.normal(0, 0.4, (3, 3, 3, 4)), dtype=tf.float32)
    weights = tf.Variable(rng.normal(0, 0.5, (4, classes)), dtype=tf.float32)

    def function(image: Any) -> Any:
        features = middle(tf.nn.conv2d(image, kernel, 1, "SAME"))
        return tf.nn.softmax(tf.reduce_mean(features, axis=[1, 2]) @ weights)

    return Network(name, 32, 32, 3, classes, function, (kernel, weights))


def tensor_types(graph: Graph, operators: Sequence[Operator] = ()) -> set[str]:
    """Types of all tensors that some operators read and write; of no operators, those of all."""
    return graph.dtypes(i for o in operators or graph.operators for i in (*o.inputs, *o.outputs))


def digests(folder: Path) -> dict[str, str]:
    return {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(folder.iterdir())}


def colours_by_hand(pixels: np.ndarray) -> np.ndarray:
    """What the colour network of the fixtures computes, step by step in float64: (3,) probabilities."""
    x = pixels / 127.5 - 1
    height, width, _ = x.shape
    padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
    average = np.mean([padded[i : i + height, j : j + width] for i in range(3) for j in range(3)], axis=0)
    features = np.clip(average[:, :, ::-1] + 1, 0, 6).mean(axis=(0, 1))
    exponentials = np.exp(2 * features)
    return exponentials / exponentials.sum()


class TestFormats:
    @pytest.mark.parametrize("form", FORMATS)
    def test_computes_what_the_network_does(self, form: str, colour_models: Path) -> None:
        model = Model(colour_models / f"colours_{form}.tflite")
        tolerance = {"fp32": 1e-5, "fp16": 2e-3, "dynamic": 1e-2, "int8": 1.5e-2, "int16x8": 5e-3}[form]
        for number, name in enumerate(COLOURS):
            picture = colour_picture(name, seed=77 + number, side=32)
            probabilities = model.classify(picture)
            assert model.labels[int(probabilities.argmax())] == name
            np.testing.assert_allclose(probabilities, colours_by_hand(np.asarray(picture)), atol=tolerance)

    def test_the_files_are_those_of_the_formats_and_nothing_else(self, colour_models: Path) -> None:
        assert sorted(p.name for p in colour_models.iterdir()) == sorted(f"colours_{form}.tflite" for form in FORMATS)

    @pytest.mark.parametrize(
        ("form", "types"),
        [
            pytest.param("fp32", {"float32", "int32"}, id="fp32"),
            pytest.param("fp16", {"float32", "float16", "int32"}, id="fp16"),
            pytest.param("int8", {"int8", "int32"}, id="int8"),
            pytest.param("int16x8", {"int16", "int8", "int32", "int64", "float32"}, id="int16x8"),
        ],
    )
    def test_tensors_are_of_the_format_s_types(self, form: str, types: set[str], colour_models: Path) -> None:
        found = tensor_types(read_graph(colour_models / f"colours_{form}.tflite"))
        assert found <= types
        assert {"fp16": "float16", "int16x8": "int16"}.get(form, form.replace("fp", "float")) in found

    def test_weights_shrink_as_their_bits_do(self, tmp_path: Path) -> None:
        kernel = tf.Variable(np.random.default_rng(0).normal(0, 0.02, (32 * 32 * 3, 64)), dtype=tf.float32)
        network = Network("wide", 32, 32, 3, 64, lambda x: tf.reshape(x, (1, -1)) @ kernel, kernel)
        made = convert_network(network, COLOURS_INPUT, ["dynamic", "fp16"], tmp_path)
        sizes = {model.format: model.size_bytes for model in made}
        assert list(sizes) == ["fp32", "fp16", "dynamic"]  # in the order of FORMATS, the reference first
        overhead = 4000
        weights = 32 * 32 * 3 * 64
        for form, bytes_each in (("fp32", 4), ("fp16", 2), ("dynamic", 1)):
            assert bytes_each * weights < sizes[form] < bytes_each * weights + overhead
            assert sizes[form] == (tmp_path / f"wide_{form}.tflite").stat().st_size

    def test_fp32_comes_unasked(self, tmp_path: Path) -> None:
        (model,) = convert_network(small_network("plain"), COLOURS_INPUT, [], tmp_path)
        assert (model.format, model.path) == ("fp32", tmp_path / "plain_fp32.tflite")

    @pytest.mark.parametrize("form", [name for name, form in FORMATS.items() if form.calibrated])
    def test_integers_need_a_calibration_set(self, form: str, tmp_path: Path) -> None:
        with pytest.raises(ConversionError, match=f"plain: {form} needs a calibration set"):
            convert_network(small_network("plain"), COLOURS_INPUT, [form], tmp_path)
        assert list(tmp_path.iterdir()) == []

    def test_softmax_gives_probabilities_and_a_bare_classifier_logits(self, tmp_path: Path) -> None:
        kinds = {}

        def mean_scores(last: Callable[[Any], Any], x: Any) -> Any:
            return last(3 * tf.reduce_mean(x, axis=[1, 2]))

        for name, last in (("softmax", tf.nn.softmax), ("logits", tf.identity)):
            scores = functools.partial(mean_scores, last)
            network = Network(name, 32, 32, 3, 3, scores, None)
            convert_network(network, COLOURS_INPUT, [], tmp_path)
            kinds[name] = read_metadata(tmp_path / f"{name}_fp32.tflite").output
        assert kinds == {"softmax": "probabilities", "logits": "logits"}


class TestInputAndOutput:
    @pytest.mark.parametrize("io", IO_TYPES)
    def test_are_of_the_type_asked_for(
        self, io: str, colour_network: Path, calibration: CalibrationSet, tmp_path: Path
    ) -> None:
        network = open_network(colour_network)
        _, made = convert_network(network, COLOURS_INPUT, ["int8"], tmp_path, calibration=calibration, io=io)
        assert made.refinement is not None  # whatever the type, it can be refined
        path = tmp_path / "colours_int8.tflite"
        model = Model(path)
        assert model.input.quantization.dtype == model.output.quantization.dtype == io
        assert read_metadata(path).provenance["io"] == io
        picture = colour_picture("green", seed=5, side=32)
        np.testing.assert_allclose(model.classify(picture), colours_by_hand(np.asarray(picture)), atol=1.5e-2)
        graph = read_graph(path)
        inside = graph.operators
        if io == "float32":
            assert (inside[0].name, inside[-1].name) == ("QUANTIZE", "DEQUANTIZE")
            inside = inside[1:-1]
        assert tensor_types(graph, inside) <= {"int8", "int32"} | ({"uint8"} if io == "uint8" else set())

    @pytest.mark.parametrize("name", NORMALIZATIONS)
    def test_the_input_covers_just_what_pixels_can_be(self, name: str, tmp_path: Path) -> None:
        """Whatever the photos show: these are all of a dull grey."""
        photos = tmp_path / "dull"
        photos.mkdir()
        for i in range(10):
            colour_picture("green", seed=i, side=32).convert("L").convert("RGB").save(photos / f"{i}.png")
        mean, std = NORMALIZATIONS[name]
        preprocessing = Preprocessing(32, 32, mean, std, crop=1.0)
        dull = choose_images(photos, preprocessing)
        assert np.ptp(np.stack(dull.pixels)) < 250
        convert_network(small_network("dull"), preprocessing, ["int8"], tmp_path, calibration=dull)
        low = min((0 - m) / s for m, s in zip(mean, std, strict=True))
        high = max((255 - m) / s for m, s in zip(mean, std, strict=True))
        quantization = Model(tmp_path / "dull_int8.tflite").input.quantization
        assert quantization.scale == pytest.approx([(high - low) / 255], rel=1e-5)
        # Zero has to be an integer: the range may move by half a step for that.
        assert abs(quantization.zero_point[0] - (-128 - low * 255 / (high - low))) <= 0.5 + 1e-3

    def test_pixels_of_0_to_255_are_the_integers_themselves(self, tmp_path: Path, photos: Path) -> None:
        preprocessing = Preprocessing(32, 32, *NORMALIZATIONS["0..1"], crop=1.0)
        chosen = choose_images(photos, preprocessing, count=10)
        convert_network(small_network("direct"), preprocessing, ["int8"], tmp_path, calibration=chosen, io="uint8")
        pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
        np.testing.assert_array_equal(Model(tmp_path / "direct_int8.tflite").tensor(pixels)[0], pixels)


class TestSameBytes:
    @pytest.mark.accept
    def test_twice_in_one_process(
        self, colour_network: Path, colour_models: Path, photos: Path, tmp_path: Path
    ) -> None:
        chosen = choose_images(photos, COLOURS_INPUT, count=30)
        convert_network(small_network("between"), COLOURS_INPUT, [], tmp_path / "other")
        network = open_network(colour_network)
        made = convert_network(
            network, COLOURS_INPUT, list(FORMATS), tmp_path / "again", calibration=chosen, labels=tuple(COLOURS)
        )
        assert len(made) == len(FORMATS)
        assert digests(tmp_path / "again") == digests(colour_models)

    def test_in_two_processes(
        self, colour_network: Path, colour_models: Path, photos: Path, tmp_path: Path, edgeq: Callable[..., Finished]
    ) -> None:
        options = [f"--{form}" for form in FORMATS] + ["--calib", photos, "--calib-count", 30, "--labels", photos]
        done = edgeq("convert", colour_network, *options, "--normalize", "-1..1", "--out", tmp_path / "out")
        assert (done.code, done.err) == (0, "")
        assert digests(tmp_path / "out") == digests(colour_models)

    def test_another_calibration_set_gives_other_bytes(
        self, colour_network: Path, colour_models: Path, calibration: CalibrationSet, tmp_path: Path
    ) -> None:
        network = open_network(colour_network)
        convert_network(network, COLOURS_INPUT, ["int8"], tmp_path, calibration=calibration, labels=tuple(COLOURS))
        ours, theirs = digests(tmp_path), digests(colour_models)
        assert ours["colours_fp32.tflite"] == theirs["colours_fp32.tflite"]
        assert ours["colours_int8.tflite"] != theirs["colours_int8.tflite"]


class TestBatchOfOne:
    def test_no_operator_computes_shapes(self, tmp_path: Path) -> None:
        """MobileNetV3 has squeeze-and-excite blocks, whose reshapes depend on a batch that is left open."""
        keras.utils.set_random_seed(0)
        keras.applications.MobileNetV3Small((64, 64, 3), weights=None, classes=10).save(tmp_path / "v3.keras")
        preprocessing = Preprocessing(64, 64, *NORMALIZATIONS["0..255"], crop=1.0)
        convert_network(open_network(tmp_path / "v3.keras"), preprocessing, [], tmp_path)
        path = tmp_path / "v3_fp32.tflite"
        names = {operator.name for operator in read_graph(path).operators}
        assert {"CONV_2D", "DEPTHWISE_CONV_2D", "HARD_SWISH", "MEAN"} <= names
        assert not names & {"SHAPE", "STRIDED_SLICE", "PACK"}
        model = Model(path)
        assert (model.input.shape, model.output.shape) == ((1, 64, 64, 3), (1, 10))

    @pytest.mark.parametrize("size", [(32, 32), (20, 44)], ids=lambda s: f"{s[0]}x{s[1]}")
    def test_an_open_size_is_fixed(self, size: tuple[int, int], tmp_path: Path) -> None:
        layers = keras.layers
        model = keras.Sequential(
            [keras.Input((None, None, 3)), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D(), layers.Dense(2)]
        )
        model.save(tmp_path / "any.keras")
        network = open_network(tmp_path / "any.keras", size)
        convert_network(network, Preprocessing(*size, crop=1.0), [], tmp_path)
        assert Model(tmp_path / "any_fp32.tflite").input.shape == (1, *size, 3)
        assert "SHAPE" not in {operator.name for operator in read_graph(tmp_path / "any_fp32.tflite").operators}


class TestRefinement:
    @pytest.fixture(scope="class")
    def made(self, blocks_network: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[ConvertedModel]]:
        out = tmp_path_factory.mktemp("refined")
        chosen = choose_images(shipped_images(), COLOURS_INPUT, count=40)
        network, labels = open_network(blocks_network), tuple("abcdef")
        formats = ["int8", "dynamic", "int16x8"]
        return out, convert_network(network, COLOURS_INPUT, formats, out, calibration=chosen, labels=labels)

    def test_of_the_integer_file_alone(self, made: tuple[Path, list[ConvertedModel]]) -> None:
        _, models = made
        assert [model.format for model in models if model.refinement is not None] == ["int8"]
        assert [model.remark for model in models] == [""] * 4
        for model in models:
            provenance = read_metadata(model.path).provenance
            assert ("refinement" in provenance) == (model.format == "int8")

    def test_is_in_the_file_and_leaves_the_model_s_size_and_its_reference(
        self, made: tuple[Path, list[ConvertedModel]], blocks: IntegerPair
    ) -> None:
        """`blocks` is the same but for the refinement."""
        out, models = made
        path = out / "blocks_int8.tflite"
        (refinement,) = (model.refinement for model in models if model.refinement is not None)
        assert refinement.kept
        assert refinement.error_after < 0.65 * refinement.error_before
        refined_model, unrefined_model = (split(p.read_bytes(), p)[0] for p in (path, blocks.int8))
        assert len(refined_model) == len(unrefined_model)
        assert (out / "blocks_fp32.tflite").read_bytes() == blocks.fp32.read_bytes()
        refined, unrefined = read_metadata(path), read_metadata(blocks.int8)
        assert unrefined.provenance["refinement"] is None
        assert refined == replace(unrefined, provenance=unrefined.provenance | {"refinement": refinement.to_json()})
        structures = [[(o.name, o.inputs, o.outputs) for o in read_graph(p).operators] for p in (path, blocks.int8)]
        assert structures[0] == structures[1]

    def test_refining_the_unrefined_file_gives_the_same(
        self, made: tuple[Path, list[ConvertedModel]], blocks: IntegerPair
    ) -> None:
        content, refinement = refine_model(Model(blocks.fp32), Model(blocks.int8), blocks.pixels)
        assert refinement in [model.refinement for model in made[1]]
        graphs = [Graph(content, "m"), read_graph(made[0] / "blocks_int8.tflite")]
        for one, other in zip(*(graph.tensors for graph in graphs), strict=True):
            assert one.quantization == other.quantization
            np.testing.assert_array_equal(one.data, other.data)

    def test_an_operator_with_two_outputs(self, calibration: CalibrationSet, tmp_path: Path) -> None:
        network = small_network("halves", lambda x: tf.concat(tf.split(x, 2, axis=3)[::-1], axis=3))
        _, model = convert_network(network, COLOURS_INPUT, ["int8"], tmp_path, calibration=calibration)
        assert "SPLIT" in {operator.name for operator in read_graph(model.path).operators}
        assert model.refinement is not None
        assert model.refinement.kept

    def test_a_network_that_cannot_be_refined_is_converted_all_the_same(
        self, calibration: CalibrationSet, tmp_path: Path
    ) -> None:
        """Its two halves are computed as a batch of two, which refinement does not support."""

        def as_two(x: Any) -> Any:
            shape = x.shape
            two = tf.nn.max_pool2d(tf.reshape(x, (2, shape[1] // 2, *shape[2:])), 3, 1, "SAME")
            return tf.reshape(two, (1, *shape[1:]))

        network = small_network("halves", as_two)
        models = convert_network(network, COLOURS_INPUT, ["int8"], tmp_path, calibration=calibration)
        remark = models[1].remark
        assert models[1].refinement is None
        assert remark.startswith("not refined: halves_fp32.tflite: operator ")
        assert ".part" not in remark
        assert read_metadata(models[1].path).provenance["refinement"] is None
        assert Model(models[1].path).classify(colour_picture("red", 1)).shape == (3,)


class TestRefused:
    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        ("middle", "form", "message"),
        [
            pytest.param(
                tf.math.erf, "fp32", r"cannot be converted to fp32: .*tf\.Erf", id="erf-is-no-tflite-operator"
            ),
            pytest.param(
                lambda x: tf.math.real(tf.signal.fft(tf.cast(x, tf.complex64))),
                "fp32",
                "net_fp32.tflite: .*cannot load this model",
                id="fft-that-no-runtime-loads",
            ),
            pytest.param(tf.math.cos, "int8", r"not full-integer, .*stayed in float: COS \(float32\)", id="cos"),
            pytest.param(tf.math.floor, "int8", r"not full-integer, .*stayed in float: .*FLOOR", id="floor"),
            pytest.param(keras.activations.elu, "int8", r"not full-integer, .*stayed in float: .*ELU", id="elu"),
            pytest.param(
                keras.activations.hard_swish, "int16x8", "cannot be converted to int16x8: .*HARD_SWISH", id="hard-swish"
            ),
        ],
    )
    def test_the_message_names_the_operator(
        self, middle: Callable[[Any], Any], form: str, message: str, calibration: CalibrationSet, tmp_path: Path
    ) -> None:
        with pytest.raises(ConversionError, match=message) as caught:
            convert_network(small_network("net", middle), COLOURS_INPUT, [form], tmp_path, calibration=calibration)
        assert str(caught.value).startswith("net")
        assert "\n" not in str(caught.value)
        assert ".part" not in str(caught.value)
        assert list(tmp_path.iterdir()) == []

    @pytest.mark.parametrize("value", [np.nan, np.inf])
    @pytest.mark.parametrize("form", ["fp32", "int8"])
    def test_weights_that_are_no_numbers(
        self, value: float, form: str, calibration: CalibrationSet, tmp_path: Path
    ) -> None:
        network = small_network("broken", lambda x: x * value)
        with pytest.raises(ConversionError, match="NaN or infinity"):
            convert_network(network, COLOURS_INPUT, [form], tmp_path, calibration=calibration)
        assert list(tmp_path.iterdir()) == []

    def test_a_network_that_cannot_take_its_input(self, tmp_path: Path) -> None:
        network = Network("odd", 32, 32, 3, 7, lambda x: tf.reduce_mean(x, axis=[1, 2]), None)
        with pytest.raises(ConversionError, match=r"odd: cannot be run on input \(1, 32, 32, 3\)"):
            convert_network(network, COLOURS_INPUT, [], tmp_path)

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("layer", ["RandomFlip", "RandomRotation", "BatchNormalization"])
    def test_a_saved_model_that_changes_as_it_runs(self, layer: str, tmp_path: Path) -> None:
        """Random layers count how often they have run. The .keras file of the same network converts."""
        layers = keras.layers
        options = {"RandomRotation": {"factor": 0.1}}.get(layer, {})
        steps = [getattr(layers, layer)(**options), layers.Conv2D(4, 3), layers.GlobalAveragePooling2D()]
        model = keras.Sequential([keras.Input((32, 32, 3)), *steps, layers.Dense(2)])
        model.save(tmp_path / "net.keras")
        archive = keras.export.ExportArchive()
        archive.track(model)
        spec = tf.TensorSpec((None, 32, 32, 3))
        archive.add_endpoint("serve", lambda x: model(x, training=True), input_signature=[spec])
        archive.write_out(str(tmp_path / "net"), verbose=False)
        with pytest.raises(ConversionError, match=r"net: changes variables .* RandomFlip .* give the \.keras file"):
            convert_network(open_network(tmp_path / "net"), COLOURS_INPUT, [], tmp_path)
        convert_network(open_network(tmp_path / "net.keras"), COLOURS_INPUT, [], tmp_path)

    def test_a_file_where_the_folder_should_be(self, tmp_path: Path) -> None:
        (tmp_path / "models").write_text("no folder")
        with pytest.raises(InputError, match="models: cannot write"):
            convert_network(small_network("plain"), COLOURS_INPUT, [], tmp_path / "models")
        assert (tmp_path / "models").read_text() == "no folder"


class TestAllOrNothing:
    def test_failure_leaves_the_files_that_were_there(self, calibration: CalibrationSet, tmp_path: Path) -> None:
        """The float file of this network is fine; it fails as an integer one, so late."""
        for form in ("fp32", "int8"):
            (tmp_path / f"net_{form}.tflite").write_text(f"old {form}")
        with pytest.raises(ConversionError, match="COS"):
            convert_network(
                small_network("net", tf.math.cos),
                COLOURS_INPUT,
                ["int8"],
                tmp_path,
                calibration=calibration,
            )
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
            "net_fp32.tflite": "old fp32",
            "net_int8.tflite": "old int8",
        }

    def test_success_replaces_them(self, calibration: CalibrationSet, tmp_path: Path) -> None:
        for form in ("fp32", "int8", "fp16"):
            (tmp_path / f"net_{form}.tflite").write_text(f"old {form}")
        convert_network(small_network("net"), COLOURS_INPUT, ["int8"], tmp_path, calibration=calibration)
        assert len(list(tmp_path.iterdir())) == 3
        assert (tmp_path / "net_fp16.tflite").read_text() == "old fp16"  # not asked for, not touched
        for form in ("fp32", "int8"):
            assert (tmp_path / f"net_{form}.tflite").read_bytes()[4:8] == b"TFL3"

    @pytest.mark.accept
    @pytest.mark.parametrize(
        ("number", "code"), [(signal.SIGTERM, 143), (signal.SIGINT, 130)], ids=["terminated", "interrupted"]
    )
    def test_a_signal_in_the_middle(self, number: signal.Signals, code: int, tmp_path: Path) -> None:
        name = "mobilenet_v2_0.35_96"
        for form in ("fp32", "int8"):
            (tmp_path / f"{name}_{form}.tflite").write_text(f"old {form}")
        command = [sys.executable, "-m", "edgeq", "convert", "--res", "96", "--alpha", "0.35", "--classes", "10"]
        process = subprocess.Popen(
            [*command, "--weights", "none", "--int8", "--out", str(tmp_path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            for _ in range(12_000):
                if list(tmp_path.glob(".*.part/new/*")):  # the float file lies there, the integer one does not yet
                    break
                assert process.poll() is None, "ended before its first file"
                time.sleep(0.01)
            process.send_signal(number)
            out, err = process.communicate(timeout=300)
        finally:
            process.kill()
        assert (process.returncode, out) == (code, b""), err.decode()
        assert b"Traceback" not in err
        assert {p.name: p.read_text() for p in tmp_path.iterdir()} == {
            f"{name}_fp32.tflite": "old fp32",
            f"{name}_int8.tflite": "old int8",
        }


class TestProvenance:
    def test_of_the_integer_file(self, colour_models: Path, colour_network: Path, photos: Path) -> None:
        metadata = read_metadata(colour_models / "colours_int8.tflite")
        assert metadata.labels == tuple(COLOURS)
        assert metadata.preprocessing == COLOURS_INPUT
        assert metadata.output == "probabilities"
        chosen = choose_images(photos, COLOURS_INPUT, count=30)
        digest = hashlib.sha256(colour_network.read_bytes()).hexdigest()
        reference = hashlib.sha256((colour_models / "colours_fp32.tflite").read_bytes()).hexdigest()
        assert metadata.provenance == {
            "network": "colours",
            "format": "int8",
            "io": "int8",
            "refinement": metadata.provenance["refinement"],
            "parent": {"file": "colours.keras", "sha256": digest},
            "reference_sha256": reference,
            "calibration": chosen.provenance(),
            "tools": {
                "edgeq": package.__version__,
                "tensorflow": tf.__version__,
                "keras": keras.__version__,
                "numpy": np.__version__,
            },
        }

    @pytest.mark.parametrize(
        ("form", "keys"),
        [
            pytest.param("fp32", set(), id="fp32"),
            pytest.param("fp16", {"reference_sha256"}, id="fp16"),
            pytest.param("dynamic", {"reference_sha256"}, id="dynamic"),
            pytest.param("int16x8", {"reference_sha256", "calibration"}, id="int16x8"),
        ],
    )
    def test_of_the_others(self, form: str, keys: set[str], colour_models: Path) -> None:
        provenance = read_metadata(colour_models / f"colours_{form}.tflite").provenance
        assert set(provenance) == {"network", "format", "parent", "tools"} | keys
        assert provenance["format"] == form

    @pytest.mark.parametrize("form", FORMATS)
    def test_no_file_tells_where_it_was_made(self, form: str, colour_models: Path, colour_network: Path) -> None:
        content = (colour_models / f"colours_{form}.tflite").read_bytes()
        for place in (colour_network.parent, colour_models, ROOT, Path(sys.prefix), Path.home()):
            assert len(str(place)) < 3 or str(place).encode() not in content

    def test_progress_is_told_of_every_stage(self, calibration: CalibrationSet, tmp_path: Path) -> None:
        calls: list[tuple[str, int, int]] = []
        convert_network(
            small_network("net"),
            COLOURS_INPUT,
            ["int8"],
            tmp_path,
            calibration=calibration,
            progress=lambda *call: calls.append(call),
        )
        stages = list(dict.fromkeys(stage for stage, _, _ in calls))
        assert stages == [
            "Preparing the network",
            "Converting to fp32",
            "Verifying fp32",
            "Calibrating",
            "Converting to int8",
            "Verifying int8",
            "Refining",
            "Checking",
        ]
        assert [done for stage, done, _ in calls if stage == "Calibrating"] == list(range(13))
        assert all(0 <= done <= total for _, done, total in calls)
        assert json.dumps(calls)  # plain numbers, nothing of TensorFlow's
