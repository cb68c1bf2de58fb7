"""MobileNetV2 against the published counts and against Keras's own builder."""

from __future__ import annotations

import math
import subprocess
import sys

import pytest

from edgeq.networks import Architecture, build_keras_model
from edgeq.networks.mobilenet_v2 import make_divisible
from networks import (
    assert_equal_outputs,
    assert_only_strides_are_missing,
    images_for,
    kerass,
    randomize,
    weights_by_layer,
)

keras = pytest.importorskip("keras")

FAMILY = "mobilenet_v2"


def narrow(height: int, width: int, output_stride: int = 32, alpha: float = 0.35) -> Architecture:
    return Architecture(FAMILY, height, width, alpha, output_stride, classes=10)


def test_has_the_published_number_of_parameters() -> None:
    model = build_keras_model(Architecture())
    assert sum(math.prod(w.shape) for w in model.trainable_weights) == 3_504_872
    assert sum(math.prod(w.shape) for w in model.non_trainable_weights) == 34_112


@pytest.mark.sampled(1)
@pytest.mark.parametrize("alpha", [1.3, 0.35])
def test_layers_and_weight_shapes_are_those_of_keras(alpha: float) -> None:
    """Every width's number of parameters is in test_sizes.py."""
    ours, theirs = build_keras_model(narrow(96, 96, alpha=alpha)), kerass(FAMILY, 96, 96, alpha)
    assert weights_by_layer(ours) == weights_by_layer(theirs)
    assert ours.count_params() == theirs.count_params()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("size", [(97, 63), (96, 64), (200, 300)], ids=lambda s: f"{s[0]}x{s[1]}")
def test_same_weights_give_the_same_output_as_keras(size: tuple[int, int]) -> None:
    ours, theirs = build_keras_model(narrow(*size)), randomize(kerass(FAMILY, *size, 0.35))
    ours.set_weights(theirs.get_weights())
    assert_equal_outputs(ours, theirs, images_for(FAMILY, *size))


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("size", "output_stride"),
    [((33, 70), 4), ((64, 64), 8), ((33, 70), 8), ((33, 70), 16), ((64, 64), 32), ((33, 70), 32)],
    ids=lambda value: f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value),
)
def test_output_stride_sets_the_size_of_the_last_feature_map(size: tuple[int, int], output_stride: int) -> None:
    architecture = narrow(*size, output_stride)
    model = build_keras_model(architecture)
    height, width = (math.ceil(side / output_stride) for side in size)
    assert model.get_layer("out_relu").output.shape == (None, height, width, 1280)
    assert architecture.last_map == (height, width)


def test_strides_are_taken_out_from_the_front() -> None:
    model = build_keras_model(narrow(64, 64, 8))
    names = ["Conv1"] + [f"block_{block}_depthwise" for block in (1, 3, 6, 13)]
    assert [model.get_layer(name).strides[0] for name in names] == [1, 1, 2, 2, 2]
    padded = [layer.name for layer in model.layers if isinstance(layer, keras.layers.ZeroPadding2D)]
    assert padded == ["block_3_pad", "block_6_pad", "block_13_pad"]


# In the first two, a block that loses its stride has as many channels at its end as at its beginning.
@pytest.mark.sampled(1)
@pytest.mark.parametrize(("alpha", "output_stride"), [(0.35, 8), (0.5, 4), (1.0, 16)])
def test_nothing_else_changes_with_the_output_stride(alpha: float, output_stride: int) -> None:
    assert_only_strides_are_missing(narrow(17, 22, output_stride, alpha))


def test_the_head_can_give_logits() -> None:
    assert build_keras_model(narrow(32, 32), "linear").layers[-1].activation.__name__ == "linear"


@pytest.mark.parametrize(("channels", "rounded"), [(1, 8), (11.2, 16), (12, 16), (16, 16), (19, 24), (22.4, 24)])
def test_make_divisible(channels: float, rounded: int) -> None:
    assert make_divisible(channels) == rounded


def test_importing_it_leaves_tensorflow_alone() -> None:
    code = "import sys, edgeq.networks.mobilenet_v2; sys.exit(bool({'tensorflow', 'keras'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
