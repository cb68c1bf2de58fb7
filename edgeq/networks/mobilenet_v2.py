"""MobileNetV2 (arXiv 1801.04381) as a functional Keras model, built from the paper's table 2.

Layer names, their order and the shapes of their weights are those of `keras.applications.MobileNetV2`, so
weights move freely between the two, and the same weights give the same outputs. Unlike Keras's builder it
can keep more of a small image, by taking strides out (`output_stride`).
"""

from __future__ import annotations

from typing import Any

from edgeq.networks.architecture import OUTPUT_STRIDES, Architecture
from edgeq.networks.head import add_head

__all__ = ["make_divisible", "mobilenet_v2"]

# Table 2: expansion factor t, output channels c, repeats n, stride s of the first of the n blocks.
STAGES = (
    (1, 16, 1, 1),
    (6, 24, 2, 2),
    (6, 32, 3, 2),
    (6, 64, 4, 2),
    (6, 96, 3, 1),
    (6, 160, 3, 2),
    (6, 320, 1, 1),
)
STEM_CHANNELS = 32
LAST_CHANNELS = 1280

# Keras's values, not those of the original slim code: what the published weights were normalised with.
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.999


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a channel count to the nearest multiple of `divisor`, never below 90 % of it, never to nothing.

    Args:
        channels: the count wanted, usually a table entry times the width multiplier; > 0.
        divisor: what the result is a multiple of. 8 suits the vector units of phones and boards.

    Returns:
        A positive multiple of `divisor` that is at least `0.9 * channels`.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def mobilenet_v2(architecture: Architecture, activation: str = "softmax") -> Any:
    """Build MobileNetV2 with Keras's random weights.

    Args:
        architecture: the size, the width and the end of the network. The paper's output stride is 32. For
            smaller ones, strides are taken out from the front: at 16 the stem keeps the full resolution, at 8
            the stage with 24 channels too, at 4 the one with 32 as well. The weights stay the same.
        activation: of the scores: ``softmax`` for probabilities, ``linear`` for logits.

    Returns:
        A `keras.Model` from (N, height, width, 3) float32, in [-1, 1] for the published weights, to
        (N, classes) float32. Its last feature map is the layer `out_relu`.
    """
    import keras
    from keras import layers

    # Walking from the front, the first strides are dropped until the rest multiply to the output stride.
    surplus = OUTPUT_STRIDES[-1] // architecture.output_stride
    alpha = architecture.alpha

    def keep(stride: int) -> int:
        nonlocal surplus
        if stride > 1 and surplus > 1:
            surplus //= stride
            return 1
        return stride

    image = layers.Input((architecture.height, architecture.width, 3))
    stem_channels = make_divisible(STEM_CHANNELS * alpha)
    x = layers.Conv2D(stem_channels, 3, keep(2), padding="same", use_bias=False, name="Conv1")(image)
    x = _normalize(x, "bn_Conv1")
    x = layers.ReLU(6.0, name="Conv1_relu")(x)

    block = 0
    for expansion, stage_channels, repeats, stage_stride in STAGES:
        for repeat in range(repeats):
            prefix = f"block_{block}_" if block else "expanded_conv_"
            # Keras truncates before it rounds, which decides a few of the uncommon widths.
            out_channels = make_divisible(int(stage_channels * alpha))
            stride = 1 if repeat else stage_stride
            x = _inverted_residual(x, expansion, out_channels, keep(stride), prefix, shortcut=stride == 1)
            block += 1

    # Section 5 of the paper: narrow networks keep the full last layer, wide ones widen it.
    last_channels = make_divisible(LAST_CHANNELS * max(1.0, alpha))
    x = layers.Conv2D(last_channels, 1, use_bias=False, name="Conv_1")(x)
    x = _normalize(x, "Conv_1_bn")
    x = layers.ReLU(6.0, name="out_relu")(x)
    scores = add_head(x, architecture, activation)
    return keras.Model(image, scores, name=architecture.family)


def _inverted_residual(x: Any, expansion: int, out_channels: int, stride: int, prefix: str, shortcut: bool) -> Any:
    """Expand, filter each channel, project linearly (figure 4d): `(N, H, W, C)` to `(N, H/s, W/s, C')`.

    `shortcut` is whether the paper's block has no stride. One whose stride was taken out gets no shortcut, even
    where its input is as wide as its output: the weights were trained without.
    """
    from keras import layers

    block_input, in_channels = x, x.shape[-1]
    if expansion > 1:
        x = layers.Conv2D(expansion * in_channels, 1, use_bias=False, name=f"{prefix}expand")(x)
        x = _normalize(x, f"{prefix}expand_BN")
        x = layers.ReLU(6.0, name=f"{prefix}expand_relu")(x)

    if stride == 2:
        x = layers.ZeroPadding2D(_stride_2_padding(x.shape[1], x.shape[2]), name=f"{prefix}pad")(x)
    padding = "same" if stride == 1 else "valid"
    x = layers.DepthwiseConv2D(3, stride, padding, use_bias=False, name=f"{prefix}depthwise")(x)
    x = _normalize(x, f"{prefix}depthwise_BN")
    x = layers.ReLU(6.0, name=f"{prefix}depthwise_relu")(x)

    x = layers.Conv2D(out_channels, 1, use_bias=False, name=f"{prefix}project")(x)
    x = _normalize(x, f"{prefix}project_BN")
    if shortcut and in_channels == out_channels:
        x = layers.Add(name=f"{prefix}add")([block_input, x])
    return x


def _stride_2_padding(height: int, width: int) -> tuple[tuple[int, int], tuple[int, int]]:
    """Zeros `((top, bottom), (left, right))` around a 3x3 filter with stride 2.

    They are the zeros of TensorFlow's "same", which on an even side are a single one, at the end. Keras has
    them as a layer of their own, and so has this network: layer by layer, the two can be compared.
    """
    return (height % 2, 1), (width % 2, 1)


def _normalize(x: Any, name: str) -> Any:
    from keras import layers

    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)(x)
