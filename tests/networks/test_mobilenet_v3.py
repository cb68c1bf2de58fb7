"""MobileNetV3 against Keras's own builders, with its strides and without."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.networks import FAMILIES, OUTPUT_STRIDES, Architecture, build_keras_model
from networks import (
    assert_equal_outputs,
    assert_only_strides_are_missing,
    images_for,
    kerass,
    randomize,
    weights_by_layer,
)

keras = pytest.importorskip("keras")

V3 = FAMILIES[1:]


@pytest.mark.sampled(1)
@pytest.mark.parametrize(
    ("family", "size", "alpha"),
    [
        ("mobilenet_v3_large", (96, 96), 0.75),
        ("mobilenet_v3_small", (97, 63), 1.0),
        ("mobilenet_v3_large_minimalistic", (65, 96), 1.0),
        ("mobilenet_v3_small_minimalistic", (224, 224), 1.0),
    ],
    ids=lambda value: f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value),
)
def test_at_the_papers_output_stride_it_is_kerass(family: str, size: tuple[int, int], alpha: float) -> None:
    keras.backend.clear_session()  # layers that have no name of their own are numbered
    ours = build_keras_model(Architecture(family, *size, alpha, classes=10), "linear")
    keras.backend.clear_session()
    theirs = kerass(family, *size, alpha, activation="linear")
    assert ours.get_config() == theirs.get_config()
    ours.set_weights(randomize(theirs).get_weights())
    assert_equal_outputs(ours, theirs, images_for(family, *size))


@pytest.mark.accept
@pytest.mark.parametrize(
    ("family", "output_stride", "size"),
    [
        ("mobilenet_v3_large", 4, (13, 20)),
        ("mobilenet_v3_small", 8, (28, 28)),
        ("mobilenet_v3_small", 16, (31, 48)),
        ("mobilenet_v3_large_minimalistic", 8, (20, 15)),
        ("mobilenet_v3_small_minimalistic", 4, (17, 22)),
    ],
    ids=lambda value: f"{value[0]}x{value[1]}" if isinstance(value, tuple) else str(value),
)
def test_nothing_but_the_first_strides_changes_with_the_output_stride(
    family: str, output_stride: int, size: tuple[int, int]
) -> None:
    assert_only_strides_are_missing(Architecture(family, *size, output_stride=output_stride, classes=10))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(("family", "output_stride"), list(zip(V3, OUTPUT_STRIDES, strict=True)))
def test_output_stride_sets_the_size_of_the_last_feature_map(family: str, output_stride: int) -> None:
    height, width = output_stride, 3 * output_stride + 1  # the smallest side that can be
    architecture = Architecture(family, height, width, output_stride=output_stride)
    features = build_keras_model(architecture).get_layer("conv_1").output
    assert tuple(features.shape[1:3]) == architecture.last_map == (1, 4)


def test_published_weights_fit_whatever_the_size_and_the_output_stride(tmp_path: Path) -> None:
    """The published files are like this one: a whole network at 224 pixels, of which the weights are read."""
    family = "mobilenet_v3_small"
    theirs = randomize(kerass(family, 224, 224, classes=1000))
    theirs.save(tmp_path / "weights_mobilenet_v3.h5")
    model = build_keras_model(Architecture(family, 20, 33, output_stride=8))
    model.load_weights(tmp_path / "weights_mobilenet_v3.h5")
    assert weights_by_layer(model) == weights_by_layer(theirs)
    for ours, other in zip(model.weights, theirs.weights, strict=True):
        assert ours.path.rpartition("/")[2] == other.path.rpartition("/")[2]
        np.testing.assert_array_equal(np.asarray(ours), np.asarray(other))


def test_it_normalizes_pixels_itself() -> None:
    architecture = Architecture("mobilenet_v3_small", 32, 32, output_stride=8, classes=10)
    model = build_keras_model(architecture)
    first = next(layer for layer in model.layers if not isinstance(layer, keras.layers.InputLayer))
    pixels = np.array([0, 127.5, 255], np.float32).reshape(1, 1, 1, 3)
    np.testing.assert_allclose(np.asarray(first(pixels)).ravel(), [-1, 0, 1], atol=1e-6)
    assert architecture.preprocessing.real_range == (0, 255)


def test_importing_it_leaves_tensorflow_alone() -> None:
    code = "import sys, edgeq.networks.mobilenet_v3; sys.exit(bool({'tensorflow', 'keras'} & {*sys.modules}))"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
