"""Operators that stay in float: named, not supported, or chosen where INT8 fails."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, colour_picture

from edgeq.calibration import choose_images, shipped_images
from edgeq.conversion import Conversion, convert
from edgeq.errors import InputError
from edgeq.preprocessing import Preprocessing
from edgeq.report.files import conversion_lines
from edgeq.runtime import Model
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import read_metadata

pytest.importorskip("ai_edge_quantizer")

HOSTILE, READER = 2, 3
"""Operators of the chain: a layer without an activation function, and the only operator that reads its output."""

SIDE, CLASSES = 32, 4


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Two networks that compute the same function: convolutions one after the other, random weights.

    In ``hostile``, the channels of one activation span 1000:1, which its reader undoes.
    """
    tf = pytest.importorskip("tensorflow")
    rng = np.random.default_rng(1)
    spread = np.geomspace(1, 1000, 8).astype(np.float32)

    def weights(*shape: int) -> np.ndarray:
        return np.asarray(rng.normal(0, np.sqrt(2 / np.prod(shape[:-1])), shape), np.float32)

    first, second, third = weights(3, 3, 3, 16), weights(3, 3, 16, 16), weights(1, 1, 16, 8)
    fourth, fifth, last = weights(3, 3, 8, 24), weights(3, 3, 24, 24), weights(24, CLASSES)
    pictures = choose_images(shipped_images(), Preprocessing(SIDE, SIDE, crop=1.0), count=40).pixels
    folder, found = tmp_path_factory.mktemp("chain"), {}

    def network(scale: np.ndarray, shift: np.ndarray) -> Any:
        @tf.function(input_signature=[tf.TensorSpec((1, SIDE, SIDE, 3))])
        def run(x: Any) -> Any:
            for kernel in (first, second):
                x = tf.nn.relu(tf.nn.conv2d(x, kernel, 2, "SAME"))
            x = tf.nn.conv2d(x, third * scale, 1, "SAME")
            x = tf.nn.relu(tf.nn.conv2d(x, fourth / scale[:, np.newaxis], 1, "SAME"))
            x = tf.reduce_mean(tf.nn.relu(tf.nn.conv2d(x, fifth, 2, "SAME")), axis=(1, 2))
            return x @ (20 * last) - shift

        return run

    # So that all classes are about equally frequent:
    honest = network(np.ones(8, np.float32), np.zeros(CLASSES, np.float32))
    shift = np.mean([honest(picture[np.newaxis] / np.float32(127.5) - 1)[0] for picture in pictures], axis=0)
    for name, scale in (("honest", np.ones(8, np.float32)), ("hostile", spread)):
        found[name] = folder / f"{name}_fp32.tflite"
        function = network(scale, shift).get_concrete_function()
        found[name].write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([function]).convert())
    kinds = [operator.name for operator in read_graph(found["hostile"]).operators]
    assert kinds[:5] == ["CONV_2D"] * 5
    return found


def converted(source: Path, out: Path, **settings: Any) -> Conversion:
    return convert(source, "int8", out, count=60, normalize="-1..1", **settings)


def float_operators(path: Path) -> list[str]:
    """Return the types of the operators that work on float32, in order."""
    graph = read_graph(path)
    return [
        operator.name
        for operator in graph.operators
        if operator.name not in ("QUANTIZE", "DEQUANTIZE") and "float32" in graph.dtypes(operator.outputs)
    ]


class TestAuto:
    def test_it_finds_the_hostile_layer_and_its_reader(self, chain: dict[str, Path], tmp_path: Path) -> None:
        """And no other: between them the activation stays in float."""
        made = converted(chain["hostile"], tmp_path, keep_float="auto", min_agreement=0.9, refine=False)
        model = made.models["int8"]
        (step,) = model.kept_float
        assert [int(operator.partition(" ")[0]) for operator in step.operators] == [HOSTILE, READER]
        assert step.error_after < 0.25 * step.error_before
        assert step.size_bytes > 0
        assert float_operators(model.path) == ["CONV_2D"] * 2
        lines = "\n".join(conversion_lines(made))
        assert "INT8, 2 operators in float" in lines
        assert f"In float: {HOSTILE} CONV_2D " in lines
        assert read_metadata(model.path).provenance["float_operators"] == list(model.float_operators)

    @pytest.mark.parametrize("refine", [True, False], ids=["refined", "unrefined"])
    def test_an_honest_network_keeps_nothing(self, refine: bool, chain: dict[str, Path], tmp_path: Path) -> None:
        model = converted(chain["honest"], tmp_path, keep_float="auto", min_agreement=0.9, refine=refine).models["int8"]
        assert (model.kept_float, model.float_operators, float_operators(model.path)) == ((), (), [])


class TestNamed:
    def test_by_number_and_by_name(self, colour_models: Path, photos: Path, tmp_path: Path) -> None:
        """Both give the same file, which is refined and still right."""
        source = colour_models / "colours_fp32.tflite"
        name = read_graph(source).tensors[read_graph(source).operators[1].outputs[0]].name
        contents: list[bytes] = []
        for operator in (1, name):
            out = tmp_path / str(len(contents))
            made = convert(source, "int8", out, calibration=photos, count=20, keep_float=[operator])
            model = made.models["int8"]
            assert float_operators(model.path) == ["CONV_2D"]
            assert model.refinement is not None
            for number, colour in enumerate(COLOURS):
                probabilities = Model(model.path).classify(colour_picture(colour, 900 + number))
                assert list(COLOURS)[int(probabilities.argmax())] == colour
            contents.append(model.path.read_bytes())
        assert contents[0] == contents[1]

    def test_of_a_keras_model(self, colour_network: Path, photos: Path, tmp_path: Path) -> None:
        made = convert(
            colour_network,
            "int8",
            tmp_path,
            calibration=photos,
            count=20,
            normalize="-1..1",
            keep_float=[1],
            io="uint8",
        )
        assert len(float_operators(made.models["int8"].path)) == 1

    def test_an_unknown_one(self, colour_models: Path, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(
            InputError,
            match=r"^--keep-float 99: colours_fp32\.tflite has no such operator; give the number or the name",
        ):
            convert(
                colour_models / "colours_fp32.tflite", "int8", tmp_path, calibration=photos, count=20, keep_float=["99"]
            )
        assert list(tmp_path.iterdir()) == []

    def test_a_word_with_others(self, colour_models: Path, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"--keep-float auto: cannot be combined with other operators"):
            convert(
                colour_models / "colours_fp32.tflite", "int8", tmp_path, calibration=photos, keep_float=["auto", "3"]
            )


def test_what_is_not_supported_stays_in_float(photos: Path, tmp_path: Path) -> None:
    """Negation, as in ConvNeXt, has no integer kernel; all else is INT8."""
    tf = pytest.importorskip("tensorflow")
    kernel = tf.random.stateless_normal((3, 3, 3, 4), (0, 1))

    @tf.function(input_signature=[tf.TensorSpec((1, 16, 16, 3))])
    def network(x: Any) -> Any:
        x = -tf.nn.conv2d(x, kernel, 1, "SAME")
        return tf.nn.softmax(tf.reduce_mean(x, axis=(1, 2)))

    source = tmp_path / "minus.tflite"
    source.write_bytes(tf.lite.TFLiteConverter.from_concrete_functions([network.get_concrete_function()]).convert())
    made = convert(
        source, "int8", tmp_path / "out", calibration=photos, count=10, normalize="-1..1", keep_float="unsupported"
    )
    graph = read_graph(made.models["int8"].path)
    assert float_operators(made.models["int8"].path) == ["NEG"]
    assert {"CONV_2D", "MEAN", "SOFTMAX"} <= {operator.name for operator in graph.operators}
