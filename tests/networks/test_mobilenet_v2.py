"""MobileNetV2 against the published counts and against Keras's own builder."""

from __future__ import annotations

import math
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

from edgeq.errors import InputError
from edgeq.networks.mobilenet_v2 import make_divisible, mobilenet_v2

keras = pytest.importorskip("keras")


def keras_builder(shape: tuple[int, int, int], alpha: float, classes: int = 1000) -> Any:
    return keras.applications.MobileNetV2(input_shape=shape, alpha=alpha, classes=classes, weights=None)


def weights_by_layer(model: Any) -> list[tuple[str, list[tuple[int, ...]]]]:
    return [(layer.name, [tuple(w.shape) for w in layer.weights]) for layer in model.layers if layer.weights]


def randomize(model: Any, seed: int = 0) -> None:
    """Weights and statistics that leave no layer an identity and keep images apart up to the last layer."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            is_kernel, is_depthwise = len(weight.shape) > 1, "depthwise" in weight.path
            fan_in = math.prod(weight.shape[:2] if is_depthwise else weight.shape[:-1])
            weight.assign(rng.normal(0, math.sqrt(3 / fan_in) if is_kernel else 0.1, weight.shape))


def test_has_the_published_number_of_parameters() -> None:
    model = mobilenet_v2()
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == 3_504_872
    assert sum(math.prod(w.shape) for w in model.non_trainable_weights) == 34_112


@pytest.mark.parametrize("alpha", [0.35, 0.5, 0.75, 1.0, 1.3, 1.4])
def test_layers_and_weight_shapes_are_those_of_keras(alpha: float) -> None:
    ours, theirs = mobilenet_v2((96, 96, 3), alpha, classes=10), keras_builder((96, 96, 3), alpha, classes=10)
    assert weights_by_layer(ours) == weights_by_layer(theirs)
    assert ours.count_params() == theirs.count_params()


@pytest.mark.parametrize("size", [(96, 96), (96, 64), (97, 63), (33, 50)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_same_weights_give_the_same_output_as_keras(size: tuple[int, int]) -> None:
    ours, theirs = mobilenet_v2((*size, 3), 0.35, classes=10), keras_builder((*size, 3), 0.35, classes=10)
    randomize(theirs)
    ours.set_weights(theirs.get_weights())
    images = np.random.default_rng(1).uniform(-1, 1, (3, *size, 3)).astype(np.float32)
    expected = theirs.predict(images, verbose=0)
    assert np.ptp(expected, axis=0).max() > 1e-2  # the random network does tell images apart
    np.testing.assert_allclose(ours.predict(images, verbose=0), expected, atol=1e-6)


@pytest.mark.parametrize("output_stride", [4, 8, 16, 32])
@pytest.mark.parametrize("size", [(64, 64), (33, 70)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_output_stride_sets_the_size_of_the_last_feature_map(output_stride: int, size: tuple[int, int]) -> None:
    model = mobilenet_v2((*size, 3), 0.35, classes=10, output_stride=output_stride)
    height, width = (math.ceil(side / output_stride) for side in size)
    assert model.get_layer("out_relu").output.shape == (None, height, width, 1280)
    assert weights_by_layer(model) == weights_by_layer(keras_builder((96, 96, 3), 0.35, classes=10))


def test_strides_are_taken_out_from_the_front() -> None:
    model = mobilenet_v2((64, 64, 3), 0.35, output_stride=8)
    names = ["Conv1"] + [f"block_{block}_depthwise" for block in (1, 3, 6, 13)]
    assert [model.get_layer(name).strides[0] for name in names] == [1, 1, 2, 2, 2]
    padded = [layer.name for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert padded == ["block_3_pad", "block_6_pad", "block_13_pad"]


def test_the_head_can_give_logits() -> None:
    assert mobilenet_v2((32, 32, 3), 0.35, head_activation="linear").layers[-1].activation.__name__ == "linear"


@pytest.mark.parametrize(("channels", "rounded"), [(1, 8), (11.2, 16), (12, 16), (16, 16), (19, 24), (22.4, 24)])
def test_make_divisible(channels: float, rounded: int) -> None:
    assert make_divisible(channels) == rounded


@pytest.mark.parametrize("output_stride", [4, 32])
def test_too_small_a_size_names_the_smallest(output_stride: int) -> None:
    mobilenet_v2((output_stride, output_stride, 3), 0.35, output_stride=output_stride)
    with pytest.raises(InputError, match=f"smallest possible is {output_stride}x{output_stride}"):
        mobilenet_v2((64, output_stride - 1, 3), 0.35, output_stride=output_stride)


@pytest.mark.parametrize("wrong", [{"output_stride": 2}, {"alpha": 0.0}, {"classes": 0}], ids=str)
def test_other_impossible_arguments(wrong: dict[str, Any]) -> None:
    with pytest.raises(InputError, match=next(iter(wrong))):
        mobilenet_v2(**wrong)


def test_importing_it_leaves_tensorflow_alone() -> None:
    code = "import sys, edgeq.networks.mobilenet_v2; sys.exit(bool({'tensorflow', 'keras'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
