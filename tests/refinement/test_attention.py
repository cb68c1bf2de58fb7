"""Networks with attention, whose dense layers run over a sequence, and layers that cannot be refined."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from graphs import assert_same_data
from PIL import Image

from edgeq.calibration import CalibrationSet, choose_images, shipped_images
from edgeq.conversion import ConvertedModel, convert_network
from edgeq.graphs import OperatorRunner
from edgeq.networks import Network, open_network
from edgeq.preprocessing import Preprocessing
from edgeq.refinement.layers import Layer
from edgeq.report.files import refinement_line
from edgeq.runtime import Model
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import read_metadata

keras = pytest.importorskip("keras")

SIDE, CLASSES = 48, 5
INPUT = Preprocessing(SIDE, SIDE, crop=1.0)


@pytest.fixture(scope="module")
def calibration() -> CalibrationSet:
    return choose_images(shipped_images(), INPUT, count=60)


def scaled(model: Any, scale: float) -> Any:
    """With larger weights than Keras's own, and biases, so that classes differ by more than a step of INT8."""
    rng = np.random.default_rng(0)
    for variable in model.trainable_variables:
        variable.assign(variable * scale if len(variable.shape) > 1 else rng.normal(0, 0.3, variable.shape))
    return model


@pytest.fixture(scope="module")
def attention(calibration: CalibrationSet, tmp_path_factory: pytest.TempPathFactory) -> ConvertedModel:
    """A small vision transformer: patches of 8x8, two heads, a perceptron at each position."""
    keras.utils.set_random_seed(2)
    layers = keras.layers
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Reshape((36, 24))(layers.Conv2D(24, 8, 8)(image))
    x = layers.Add()([x, layers.MultiHeadAttention(2, 12)(x, x)])
    x = layers.Add()([x, layers.Dense(24)(layers.Dense(48, activation="relu")(x))])
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling1D()(x))
    folder = tmp_path_factory.mktemp("attention")
    scaled(keras.Model(image, x), 2).save(folder / "attention.keras")
    network = open_network(folder / "attention.keras")
    return convert_network(network, INPUT, ["int8"], folder, calibration=calibration)[1]


def test_attention_is_refined(attention: ConvertedModel) -> None:
    """Every dense layer of it, not the classifier and the patches alone."""
    refinement = attention.refinement
    assert refinement is not None
    assert (refinement.kept, refinement.layers, refinement.skipped_layers) == (True, 8, ())
    assert "skipped_layers" not in refinement.to_json()
    assert "not refined" not in refinement_line(refinement)
    float_graph, graph = (read_graph(attention.path.with_name(f"attention_{form}.tflite")) for form in ("fp32", "int8"))
    for ours, theirs in zip(graph.operators, float_graph.operators, strict=True):
        if ours.name == "FULLY_CONNECTED":
            weights, reference = graph.tensors[ours.inputs[1]], float_graph.tensors[theirs.inputs[1]]
            assert weights.data is not None
            nearest = np.rint(reference.dequantize() / np.reshape(weights.quantization.scale, (-1, 1)))
            assert (nearest != weights.data).mean() > 0.05, ours.index
    assert Model(attention.path).classify(Image.new("RGB", (SIDE, SIDE), (128, 128, 128))).shape == (CLASSES,)


@pytest.mark.parametrize("form", ["fp32", "int8"])
def test_dense_layers_over_a_sequence_are_matrices_times_patches(form: str, attention: ConvertedModel) -> None:
    """Against the runtime's own kernel, at every position."""
    graph = read_graph(attention.path.with_name(f"attention_{form}.tflite"))
    found = [Layer(graph, operator) for operator in graph.operators if operator.name == "FULLY_CONNECTED"]
    assert [layer.output_size() for layer in found] == [(1, 36)] * 6 + [(1, 1)]
    assert all(layer.refinable for layer in found)
    rng = np.random.default_rng(0)
    for layer in found:
        source, output = layer.input.quantization, layer.output.quantization
        shape = (3, *layer.input.shape[1:])
        x = rng.integers(-128, 128, shape, np.int8) if form == "int8" else rng.normal(0, 1, shape).astype(np.float32)
        given = output.dequantize(OperatorRunner(graph, layer.operator).run([x])).reshape(-1, layer.output.shape[-1])
        patches = layer.patches(x, np.arange(layer.output_size()[1]), *source.zero_point[:1])
        real = source.dequantize(patches).reshape(-1, 1, 1, layer.channels)
        expected = layer.respond(layer.rows(layer.weights.dequantize()), real)
        if layer.bias is not None:
            expected = expected + layer.bias.dequantize()
        if layer.operator.options.fusedActivationFunction:
            expected = expected.clip(0)
        low, high = output.real_range if form == "int8" else (-np.inf, np.inf)
        tolerance = 0.51 * output.scale[0] if form == "int8" else 1e-4
        np.testing.assert_allclose(given, expected.clip(low, high), atol=tolerance)
        mean = layer.mean_patch(source.dequantize(x).mean(axis=0))
        np.testing.assert_allclose(mean.ravel(), real.mean(axis=(0, 1, 2)), atol=1e-5)


def test_layers_that_cannot_be_refined_stay_and_are_named(calibration: CalibrationSet, tmp_path: Path) -> None:
    layers = keras.layers
    keras.utils.set_random_seed(1)
    image = keras.Input((SIDE, SIDE, 3))
    x = layers.Conv2D(8, 3, 2, activation="relu")(image)
    x = layers.Conv2DTranspose(8, 3, 2, activation="relu", name="larger")(x)
    x = layers.Conv2D(8, 3, 2, activation="relu")(x)
    x = layers.Dense(CLASSES, activation="softmax")(layers.GlobalAveragePooling2D()(x))
    scaled(keras.Model(image, x), 2).save(tmp_path / "net.keras")
    network = open_network(tmp_path / "net.keras")
    before, after = (
        convert_network(network, INPUT, ["int8"], tmp_path / str(refined), calibration=calibration, refine=refined)
        for refined in (False, True)
    )
    refinement = after[1].refinement
    assert refinement is not None
    assert refinement.kept
    ((index, operator, name),) = (layer.split() for layer in refinement.skipped_layers)
    assert (operator, "larger" in name) == ("TRANSPOSE_CONV", True)
    assert refinement.to_json()["skipped_layers"] == list(refinement.skipped_layers)
    assert read_metadata(after[1].path).provenance["refinement"] == refinement.to_json()
    assert f"1 layer is not refined: {index} TRANSPOSE_CONV {name}." in refinement_line(refinement)
    graphs = [read_graph(models[1].path) for models in (before, after)]
    for number in graphs[0].operators[int(index)].inputs:
        tensors = [graph.tensors[number] for graph in graphs]
        assert tensors[0].quantization == tensors[1].quantization  # its bias could not follow a new range
        assert_same_data(tensors[0], tensors[1])


def test_a_product_of_two_activations_is_no_layer(calibration: CalibrationSet, tmp_path: Path) -> None:
    """The converter makes a FULLY_CONNECTED of it, whose weights are computed."""
    import tensorflow as tf

    rng = np.random.default_rng(2)
    kernels = [tf.constant(rng.normal(0, 1, shape), tf.float32) for shape in ((3, 16), (3, 16), (4, CLASSES))]

    def function(image: Any) -> Any:
        mean = tf.reduce_mean(image, axis=[1, 2])
        product = tf.matmul(mean @ kernels[0], mean @ kernels[1], transpose_b=True)
        return tf.nn.softmax(tf.concat([mean, product], axis=1) @ kernels[2])

    network = Network("product", SIDE, SIDE, 3, CLASSES, function, kernels)
    _, model = convert_network(network, INPUT, ["int8"], tmp_path, calibration=calibration)
    assert model.refinement is not None, model.remark
    assert (model.refinement.layers, model.refinement.skipped_layers) == (3, ())


def test_a_network_without_layers_is_converted_all_the_same(calibration: CalibrationSet, tmp_path: Path) -> None:
    import tensorflow as tf

    network = Network("none", SIDE, SIDE, 3, 3, lambda x: tf.nn.softmax(tf.reduce_mean(x, axis=[1, 2])), None)
    _, model = convert_network(network, INPUT, ["int8"], tmp_path, calibration=calibration)
    assert model.refinement is None
    assert model.remark == "not refined: none_int8.tflite: has no layer that can be refined"
