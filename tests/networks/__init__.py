"""Networks against Keras's own builders: what tests of several families share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from edgeq.networks import Architecture, build_keras_model

PIXELS = {"mobilenet_v2": (-1, 1)} | dict.fromkeys(
    (
        "mobilenet_v3_large",
        "mobilenet_v3_small",
        "mobilenet_v3_large_minimalistic",
        "mobilenet_v3_small_minimalistic",
    ),
    (0, 255),
)
"""What the published networks of each family take, lowest and highest."""


def kerass(
    family: str,
    height: int,
    width: int,
    alpha: float = 1.0,
    classes: int = 10,
    top: bool = True,
    activation: str = "softmax",
) -> Any:
    """The network that Keras builds, with its own random weights."""
    import keras

    options: dict[str, Any] = {"alpha": alpha, "include_top": top, "weights": None, "name": family}
    options |= {"classes": classes, "classifier_activation": activation}
    if family == "mobilenet_v2":
        return keras.applications.MobileNetV2((height, width, 3), **options)
    build = keras.applications.MobileNetV3Large if "large" in family else keras.applications.MobileNetV3Small
    return build((height, width, 3), minimalistic=family.endswith("minimalistic"), **options)


def randomize(model: Any, seed: int = 0) -> Any:
    """Weights and statistics that leave no layer an identity and keep images apart up to the last layer."""
    rng = np.random.default_rng(seed)
    for weight in model.weights:
        if "variance" in weight.path or "gamma" in weight.path:
            weight.assign(rng.uniform(0.5, 1.5, weight.shape))
        else:
            is_kernel, is_depthwise = len(weight.shape) > 1, "depthwise" in weight.path
            fan_in = math.prod(weight.shape[:2] if is_depthwise else weight.shape[:-1])
            weight.assign(rng.normal(0, math.sqrt(1.8 / fan_in) if is_kernel else 0.1, weight.shape))
    return model


def weights_by_layer(model: Any) -> list[tuple[str, list[tuple[int, ...]]]]:
    """Names of the layers that have weights, in order, and the shapes of those."""
    return [(layer.name, [tuple(w.shape) for w in layer.weights]) for layer in model.layers if layer.weights]


def images_for(family: str, height: int, width: int, count: int = 3) -> np.ndarray:
    """Noise in colours of its own a picture, in the range of a family: (count, height, width, 3) float32."""
    rng = np.random.default_rng(1)
    colours = rng.uniform(*PIXELS[family], (count, 1, 1, 3))
    return ((colours + rng.uniform(*PIXELS[family], (count, height, width, 3))) / 2).astype(np.float32)


def assert_equal_outputs(ours: Any, theirs: Any, images: np.ndarray) -> None:
    """That two networks give the same, up to a small share of how far apart they put images."""
    expected = np.asarray(theirs(images, training=False))
    apart = float(np.ptp(expected, axis=0).max())
    assert apart > 2e-3  # the random network does tell images apart
    np.testing.assert_allclose(np.asarray(ours(images, training=False)), expected, rtol=0, atol=5e-4 * apart)


def assert_only_strides_are_missing(architecture: Architecture) -> None:
    """That a network is Keras's own but for its first strides.

    Keras's network runs on a picture so much larger that both have the same feature maps from the last of those
    strides on. There, and from there to the scores, the two have to agree: the later layers are as they were.
    Each of the layers without its stride has to give what Keras's gives, and the positions in between.
    """
    import keras

    removed = int(math.log2(32 / architecture.output_stride))
    height, width = architecture.height, architecture.width
    sides = height << removed, width << removed
    larger = kerass(architecture.family, *sides, architecture.alpha, architecture.classes, activation="linear")
    model = build_keras_model(architecture, "linear")
    assert weights_by_layer(model) == weights_by_layer(larger)
    features = model.get_layer("out_relu" if architecture.family == "mobilenet_v2" else "conv_1").output
    assert features.shape[1:3] == tuple(math.ceil(side / architecture.output_stride) for side in (height, width))
    model.set_weights(randomize(larger).get_weights())

    strided = [layer.name for layer in larger.layers if getattr(layer, "strides", None) == (2, 2)]
    assert len(strided) == 5
    assert [model.get_layer(name).strides for name in strided] == [(1, 1)] * removed + [(2, 2)] * (5 - removed)
    rng = np.random.default_rng(2)
    for name in strided[:removed]:
        full, halving = model.get_layer(name), larger.get_layer(name)
        padding = halving.input._keras_history.operation
        channels = halving.input.shape[-1]
        features = rng.normal(0, 1, (1, 16, 12, channels)).astype(np.float32)
        padded = padding(features) if isinstance(padding, keras.layers.ZeroPadding2D) else features
        # On an even side TensorFlow pads at the end, so the first of two positions is the one that is left out.
        np.testing.assert_allclose(np.asarray(full(features))[:, 1::2, 1::2], np.asarray(halving(padded)), atol=1e-5)

    last = strided[removed - 1]
    tails = [keras.Model(network.get_layer(last).output, network.output) for network in (model, larger)]
    assert tails[0].input.shape == tails[1].input.shape == (None, height, width, tails[0].input.shape[-1])
    assert_equal_outputs(tails[0], tails[1], rng.normal(0, 1, (2, *tails[0].input.shape[1:])).astype(np.float32))
