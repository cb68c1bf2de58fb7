"""MobileNetV2 (arXiv 1801.04381) as a functional Keras model, built from the paper's table 2.

Layer names, their order and the shapes of their weights are those of `keras.applications.MobileNetV2`, so
weights move freely between the two, and the same weights give the same outputs. Unlike Keras's builder it
can keep more of a small image, by taking strides out (`output_stride`).
"""

from __future__ import annotations

from typing import Any

from edgeq.errors import InputError

__all__ = ["OUTPUT_STRIDES", "make_divisible", "mobilenet_v2"]

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
OUTPUT_STRIDES = (4, 8, 16, 32)

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


def mobilenet_v2(
    input_shape: tuple[int, int, int] = (224, 224, 3),
    alpha: float = 1.0,
    classes: int = 1000,
    output_stride: int = 32,
    head_activation: str = "softmax",
    name: str | None = None,
) -> Any:
    """Build MobileNetV2 with random weights.

    Args:
        input_shape: `(height, width, channels)` of one image; odd and rectangular sizes are fine. Each side
            must be at least `output_stride` pixels.
        alpha: width multiplier, > 0; published weights exist for 0.35, 0.5, 0.75, 1.0, 1.3 and 1.4.
        classes: length of the output vector, >= 1.
        output_stride: input pixels per cell of the last feature map, along a side: 4, 8, 16 or 32 (the
            paper's). Strides are taken out from the front: at 16 the stem keeps the full resolution, at 8 the
            stage with 24 channels too, at 4 the one with 32 as well. The weights stay the same.
        head_activation: Keras activation of the classifier; "softmax" gives probabilities, "linear" logits.
        name: name of the model; `mobilenet_v2_<alpha>` by default.

    Returns:
        A `keras.Model` from `(N, height, width, channels)` float32, in [-1, 1] for the published weights, to
        `(N, classes)` float32. The sides of its last feature map, layer `out_relu`, are
        `ceil(side / output_stride)`.

    Raises:
        InputError: a size too small for the output stride, or an argument outside the ranges above.
    """
    height, width, channels = input_shape
    if output_stride not in OUTPUT_STRIDES:
        raise InputError(f"output_stride must be one of {OUTPUT_STRIDES}, not {output_stride}")
    if min(height, width) < output_stride:
        raise InputError(
            f"{width}x{height} pixels are too few for MobileNetV2 with an output stride of {output_stride}: "
            f"the smallest possible is {output_stride}x{output_stride}"
        )
    if channels < 1 or classes < 1 or alpha <= 0:
        raise InputError(
            f"channels and classes must be at least 1 and alpha above 0, "
            f"not channels={channels}, classes={classes}, alpha={alpha}"
        )

    import keras
    from keras import layers

    # Walking from the front, the first strides are dropped until the rest multiply to output_stride.
    surplus = OUTPUT_STRIDES[-1] // output_stride

    def keep(stride: int) -> int:
        nonlocal surplus
        if stride > 1 and surplus > 1:
            surplus //= stride
            return 1
        return stride

    image = layers.Input(input_shape)
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
            stride = 1 if repeat else keep(stage_stride)
            x = _inverted_residual(x, expansion, out_channels, stride, prefix)
            block += 1

    # Section 5 of the paper: narrow networks keep the full last layer, wide ones widen it.
    last_channels = make_divisible(LAST_CHANNELS * max(1.0, alpha))
    x = layers.Conv2D(last_channels, 1, use_bias=False, name="Conv_1")(x)
    x = _normalize(x, "Conv_1_bn")
    x = layers.ReLU(6.0, name="out_relu")(x)
    x = layers.GlobalAveragePooling2D(name="global_average_pooling2d")(x)
    scores = layers.Dense(classes, activation=head_activation, name="predictions")(x)
    return keras.Model(image, scores, name=name or f"mobilenet_v2_{alpha:g}")


def _inverted_residual(x: Any, expansion: int, out_channels: int, stride: int, prefix: str) -> Any:
    """Expand, filter each channel, project linearly (figure 4d): `(N, H, W, C)` to `(N, H/s, W/s, C')`."""
    from keras import layers

    shortcut, in_channels = x, x.shape[-1]
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
    if stride == 1 and in_channels == out_channels:
        x = layers.Add(name=f"{prefix}add")([shortcut, x])
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
