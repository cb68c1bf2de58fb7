"""MobileNetV2 (arXiv 1801.04381) as a functional Keras model, built from table 2 of the paper.

Layer names, their order and the shapes of weights are the same as in `keras.applications.MobileNetV2`. So weights can
be exchanged between the two, and the same weights give the same outputs. Unlike Keras's builder, this one can remove
strides (`output_stride`), which keeps more spatial information of small images.
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

# Keras's values, with which the published weights are used; those of the original TensorFlow-Slim code differ.
BATCH_NORM_EPSILON = 1e-3
BATCH_NORM_MOMENTUM = 0.999


def make_divisible(channels: float, divisor: int = 8) -> int:
    """Round a number of channels to a multiple of `divisor`: the nearest, or the next higher if that loses over 10 %.

    Args:
        channels: the number of channels, usually a table entry times the width multiplier; positive.
        divisor: the divisor; 8 suits the vector units of phones and boards.

    Returns:
        A positive multiple of `divisor` that is at least ``0.9 * channels``.
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded if rounded >= 0.9 * channels else rounded + divisor


def mobilenet_v2(architecture: Architecture, activation: str = "softmax") -> Any:
    """Build MobileNetV2 with Keras's random weights.

    Args:
        architecture: input size, width multiplier, output stride and head. The paper's output stride is 32. For a
            smaller one, the first strides are removed: for 16 that of the stem, for 8 also that of the stage with 24
            channels, for 4 also that of the stage with 32 channels. The shapes of the weights do not change.
        activation: activation of the scores: ``softmax`` for probabilities, ``linear`` for logits.

    Returns:
        A `keras.Model` from (N, height, width, 3) float32, in [-1, 1] for the published weights, to
        (N, classes) float32. The last feature map is the output of the layer `out_relu`.
    """
    import keras
    from keras import layers

    # Remove strides, starting with the first layer, until the product of the others is the output stride.
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
            # Truncate before rounding, as Keras does: this makes a difference for some uncommon width multipliers.
            out_channels = make_divisible(int(stage_channels * alpha))
            stride = 1 if repeat else stage_stride
            x = _inverted_residual(x, expansion, out_channels, keep(stride), prefix, shortcut=stride == 1)
            block += 1

    # Section 5 of the paper: width multipliers below 1 do not apply to the last layer.
    last_channels = make_divisible(LAST_CHANNELS * max(1.0, alpha))
    x = layers.Conv2D(last_channels, 1, use_bias=False, name="Conv_1")(x)
    x = _normalize(x, "Conv_1_bn")
    x = layers.ReLU(6.0, name="out_relu")(x)
    scores = add_head(x, architecture, activation)
    return keras.Model(image, scores, name=architecture.family)


def _inverted_residual(x: Any, expansion: int, out_channels: int, stride: int, prefix: str, shortcut: bool) -> Any:
    """Add an inverted residual block (figure 4d), from (N, H, W, C) to (N, H/stride, W/stride, out_channels).

    The block expands the channels, filters each of them, and projects them linearly.

    Args:
        x: the block's input, symbolic.
        expansion: expansion factor of the channels.
        out_channels: number of output channels.
        stride: stride of the depthwise convolution, 1 or 2.
        prefix: prefix of the layers' names.
        shortcut: whether the block has stride 1 in the paper. A block whose stride was removed gets no shortcut, even
            if it has as many input as output channels, because the weights were trained without one.
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
    """Return the padding ``((top, bottom), (left, right))`` of a 3x3 convolution with stride 2.

    It is TensorFlow's "same" padding: 1 on both sides for an odd input side, and 1 at the end for an even one. It is a
    separate layer, as in Keras's network, so that the two networks can be compared layer by layer.
    """
    return (height % 2, 1), (width % 2, 1)


def _normalize(x: Any, name: str) -> Any:
    from keras import layers

    return layers.BatchNormalization(epsilon=BATCH_NORM_EPSILON, momentum=BATCH_NORM_MOMENTUM, name=name)(x)
