"""Layers as matrices times patches: against padded pictures cut by hand, and against the runtime's own kernels."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from edgeq.calibration import choose_images, shipped_images
from edgeq.conversion import convert_network
from edgeq.graphs import OperatorRunner
from edgeq.graphs.pairing import WEIGHTED
from edgeq.networks import open_network
from edgeq.preprocessing import Preprocessing
from edgeq.refinement.layers import Layer
from edgeq.tflite.graph import Graph, read_graph

keras = pytest.importorskip("keras")

HEIGHT, WIDTH, CHANNELS = 13, 10, 4
CONV, DEPTHWISE = "conv", "depthwise"
KINDS: dict[str, tuple[str, dict[str, Any]]] = {
    "3x3-same": (CONV, {"kernel_size": 3, "padding": "same"}),
    "3x3-valid": (CONV, {"kernel_size": 3, "padding": "valid"}),
    "3x3-stride-2-same": (CONV, {"kernel_size": 3, "strides": 2, "padding": "same"}),
    "3x3-stride-2-valid": (CONV, {"kernel_size": 3, "strides": 2, "padding": "valid"}),
    "5x2-stride-2x1-same": (CONV, {"kernel_size": (5, 2), "strides": (2, 1), "padding": "same"}),
    "3x3-dilation-2-same": (CONV, {"kernel_size": 3, "dilation_rate": 2, "padding": "same"}),
    "3x3-dilation-2-valid": (CONV, {"kernel_size": 3, "dilation_rate": 2, "padding": "valid"}),
    "1x1": (CONV, {"kernel_size": 1}),
    "1x1-stride-2": (CONV, {"kernel_size": 1, "strides": 2}),
    "2-groups": (CONV, {"kernel_size": 3, "padding": "same", "groups": 2}),
    "depthwise-same": (DEPTHWISE, {"kernel_size": 3, "padding": "same"}),
    "depthwise-stride-2-same": (DEPTHWISE, {"kernel_size": 3, "strides": 2, "padding": "same"}),
    "depthwise-5x5-valid": (DEPTHWISE, {"kernel_size": 5, "padding": "valid"}),
    "depthwise-twice-as-many": (DEPTHWISE, {"kernel_size": 3, "padding": "same", "depth_multiplier": 2}),
}
FORMS = ("fp32", "int8")


@pytest.fixture(scope="module")
def graphs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Graph]:
    """A network with a layer of each kind, side by side; each makes another number of channels, to be known by."""
    keras.utils.set_random_seed(1)
    layers = keras.layers
    image = keras.Input((HEIGHT, WIDTH, 3))
    x = layers.Conv2D(CHANNELS, 1, activation="relu", bias_initializer="ones")(image)
    ends = []
    for number, (kind, options) in enumerate(KINDS.values()):
        bias = keras.initializers.RandomNormal(0, 0.3, seed=number)
        if kind == CONV:
            y = layers.Conv2D(filters(number), bias_initializer=bias, **options)(x)
        else:  # behind a step of its own, to have a number of channels of its own
            z = layers.Conv2D(filters(number), 1, activation="relu", bias_initializer="ones")(x)
            y = layers.DepthwiseConv2D(bias_initializer=bias, **options)(z)
        ends.append(layers.GlobalAveragePooling2D()(y))
    x = layers.Dense(5, bias_initializer=keras.initializers.RandomNormal(0, 0.3))(layers.Concatenate()(ends))
    folder = tmp_path_factory.mktemp("kinds")
    keras.Model(image, x).save(folder / "kinds.keras")
    preprocessing = Preprocessing(HEIGHT, WIDTH, crop=1.0)
    chosen = choose_images(shipped_images(), preprocessing, count=20)
    network = open_network(folder / "kinds.keras")
    convert_network(network, preprocessing, ["int8"], folder, calibration=chosen, refine=False)
    return {form: read_graph(folder / f"kinds_{form}.tflite") for form in FORMS}


def filters(number: int) -> int:
    return 40 + 2 * number


def find(graph: Graph, kind: str) -> Layer:
    number, options = list(KINDS).index(kind), KINDS[kind][1]
    channels = filters(number) * options.get("depth_multiplier", 1)
    name = "DEPTHWISE_CONV_2D" if KINDS[kind][0] == DEPTHWISE else "CONV_2D"
    (operator,) = (
        o
        for o in graph.operators
        if o.name == name and graph.tensors[o.outputs[0]].shape[-1] == channels and not is_step(graph, o, kind)
    )
    return Layer(graph, operator)


def is_step(graph: Graph, operator: Any, kind: str) -> bool:
    return KINDS[kind][0] == DEPTHWISE and operator.name == "CONV_2D"


def all_patches(x: np.ndarray, options: dict[str, Any]) -> np.ndarray:
    """Patches of a padded input, cut place by place: (items, rows, columns, height, width, channels).

    The padding is that of Keras's documentation: with "same" there are ceil(size / stride) positions, and what is
    missing is added on both sides, the odd one behind.
    """
    kernel, stride, dilation = (
        (value, value) if isinstance(value, int) else value
        for value in (options["kernel_size"], options.get("strides", 1), options.get("dilation_rate", 1))
    )
    spread = [(k - 1) * d + 1 for k, d in zip(kernel, dilation, strict=True)]
    if options.get("padding") == "same":
        positions = [-(-n // s) for n, s in zip(x.shape[1:3], stride, strict=True)]
        missing = [
            max((p - 1) * s + e - n, 0) for p, s, e, n in zip(positions, stride, spread, x.shape[1:3], strict=True)
        ]
        x = np.pad(x, ((0, 0), *((m // 2, m - m // 2) for m in missing), (0, 0)))
    positions = [(n - e) // s + 1 for n, e, s in zip(x.shape[1:3], spread, stride, strict=True)]
    rows = []
    for i in range(positions[0]):
        tops = i * stride[0], i * stride[0] + spread[0]
        lefts = ((j * stride[1], j * stride[1] + spread[1]) for j in range(positions[1]))
        rows.append([x[:, tops[0] : tops[1] : dilation[0], a : b : dilation[1]] for a, b in lefts])
    return np.moveaxis(np.array(rows), 2, 0)


def activations(layer: Layer, items: int = 3) -> np.ndarray:
    rng = np.random.default_rng(0)
    return rng.normal(0.5, 1, (items, *layer.input.shape[1:])).astype(np.float32)


@pytest.mark.parametrize("kind", KINDS)
class TestConvolutions:
    def test_patches_are_those_of_a_padded_picture(self, kind: str, graphs: dict[str, Graph]) -> None:
        layer = find(graphs["fp32"], kind)
        x = activations(layer)
        expected = all_patches(x, KINDS[kind][1])
        assert layer.output_size() == expected.shape[1:3]
        assert layer.kernel == expected.shape[3:5]
        flat = expected.reshape(len(x), -1, *expected.shape[3:])
        np.testing.assert_array_equal(layer.patches(x, np.arange(flat.shape[1])), flat)
        some = np.array([0, 3, 4, flat.shape[1] - 1])
        np.testing.assert_array_equal(layer.patches(x, some), flat[:, some])
        # Padded with what stands for 0.
        np.testing.assert_array_equal(layer.patches(x - 7, some, -7), flat[:, some] - 7)
        mean = layer.mean_patch(x.mean(axis=0))
        assert mean.dtype == np.float64
        np.testing.assert_allclose(mean, flat.mean(axis=(0, 1), dtype=np.float64), atol=1e-5)

    def test_weights_times_the_mean_patch_are_the_mean_of_what_the_kernel_gives(
        self, kind: str, graphs: dict[str, Graph]
    ) -> None:
        layer = find(graphs["fp32"], kind)
        x = activations(layer)
        assert layer.bias is not None
        found = (
            layer.respond(layer.rows(layer.weights.dequantize()), layer.mean_patch(x.mean(axis=0))[np.newaxis])[0]
            + layer.bias.dequantize()
        )
        given = OperatorRunner(layer.graph, layer.operator).run([x]).astype(np.float64)
        np.testing.assert_allclose(found, given.mean(axis=(0, 1, 2)), atol=1e-5)
        # And of every patch by itself.
        every = layer.patches(x, np.arange(given[0, ..., 0].size)).reshape(-1, *layer.kernel, layer.input.shape[-1])
        found = layer.respond(layer.rows(layer.weights.dequantize()), every) + layer.bias.dequantize()
        np.testing.assert_allclose(found, given.reshape(found.shape), atol=1e-4)

    def test_of_integers_too_but_for_their_rounding(self, kind: str, graphs: dict[str, Graph]) -> None:
        layer = find(graphs["int8"], kind)
        source, made = layer.input.quantization, layer.output.quantization
        integers = np.random.default_rng(1).integers(-128, 0, (6, *layer.input.shape[1:])).astype(np.int8)
        given = OperatorRunner(layer.graph, layer.operator).run([integers])
        inner = (given > -128) & (given < 127)
        whole = inner.all(axis=(0, 1, 2))  # channels that were never clipped
        assert whole.sum() >= 5
        assert layer.bias is not None
        mean = layer.mean_patch(source.dequantize(integers).mean(axis=0))
        found = layer.respond(layer.rows(layer.weights.dequantize()), mean[np.newaxis])[0] + layer.bias.dequantize()
        steps = (found - made.dequantize(given).mean(axis=(0, 1, 2))) / made.scale[0]
        assert np.abs(steps[whole]).max() < 0.1

    @pytest.mark.parametrize("form", FORMS)
    def test_rows_are_undone(self, form: str, kind: str, graphs: dict[str, Graph]) -> None:
        layer = find(graphs[form], kind)
        data = layer.weights.data
        assert data is not None
        rows = layer.rows(data)
        assert len(rows) == layer.output.shape[-1]
        assert rows.size == data.size
        np.testing.assert_array_equal(layer.unrows(rows), data)


def test_fully_connected(graphs: dict[str, Graph]) -> None:
    (operator,) = (o for o in graphs["fp32"].operators if o.name == "FULLY_CONNECTED")
    layer = Layer(graphs["fp32"], operator)
    x = activations(layer, items=7)
    assert (layer.output_size(), layer.kernel) == ((1, 1), (1, 1))
    np.testing.assert_array_equal(layer.patches(x, np.array([0])).reshape(x.shape), x)
    np.testing.assert_allclose(layer.mean_patch(x.mean(axis=0)).ravel(), x.mean(axis=0), atol=1e-6)
    assert layer.weights.data is not None
    np.testing.assert_array_equal(layer.unrows(layer.rows(layer.weights.data)), layer.weights.data)
    assert layer.bias is not None
    found = (
        layer.respond(layer.rows(layer.weights.dequantize()), layer.mean_patch(x.mean(axis=0))[np.newaxis])[0]
        + layer.bias.dequantize()
    )
    given = OperatorRunner(layer.graph, operator).run([x])
    np.testing.assert_allclose(found, given.mean(axis=0), atol=1e-5)


def test_every_kind_is_what_it_says(graphs: dict[str, Graph]) -> None:
    """The converter left the strides, dilations and groups to one operator each."""
    layers = {kind: find(graphs["int8"], kind) for kind in KINDS}
    assert layers["3x3-dilation-2-same"].operator.options.dilationHFactor == 2
    assert layers["1x1-stride-2"].operator.options.strideW == 2
    assert layers["2-groups"].weights.shape[-1] == CHANNELS // 2
    assert layers["depthwise-twice-as-many"].weights.shape[-1] == 2 * layers["depthwise-twice-as-many"].input.shape[-1]
    assert all(layer.operator.name in WEIGHTED for layer in layers.values())
