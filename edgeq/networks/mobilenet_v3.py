"""MobileNetV3 (arXiv 1905.02244) from Keras's own builders, also for small inputs.

Keras's builders support no output stride other than 32 and no inputs below 32 pixels. For these, the model from the
builder is cloned layer by layer without the first strides. The shapes of the weights do not change.
"""

from __future__ import annotations

from typing import Any

from edgeq.networks.architecture import OUTPUT_STRIDES, Architecture
from edgeq.networks.head import add_head

__all__ = ["mobilenet_v3"]

_SMALLEST_OF_KERAS = 32  # side in pixels


def mobilenet_v3(architecture: Architecture, activation: str = "softmax") -> Any:
    """Build MobileNetV3 with Keras's random weights. Its first layer normalizes pixel values 0 to 255.

    Args:
        architecture: an architecture whose family starts with ``mobilenet_v3``.
        activation: activation of the scores: ``softmax`` for probabilities, ``linear`` for logits.

    Returns:
        A `keras.Model` from (N, height, width, 3) float32 in [0, 255] to (N, classes) float32.
    """
    import keras

    large = "large" in architecture.family
    builder = keras.applications.MobileNetV3Large if large else keras.applications.MobileNetV3Small
    sides = (architecture.height, architecture.width)
    model = builder(
        (*(max(side, _SMALLEST_OF_KERAS) for side in sides), 3),
        alpha=architecture.alpha,
        minimalistic="minimalistic" in architecture.family,
        include_top=architecture.head is None,
        weights=None,
        classes=architecture.classes,
        classifier_activation=activation,
        name=architecture.family,
    )
    if architecture.head is not None:
        model = keras.Model(model.input, add_head(model.output, architecture, activation), name=architecture.family)
    if architecture.output_stride == OUTPUT_STRIDES[-1]:
        return model
    return _with_output_stride(model, (*sides, 3), architecture.output_stride)


def _with_output_stride(model: Any, input_shape: tuple[int, int, int], output_stride: int) -> Any:
    """Clone a model for another input size, without the first strides.

    Strides are removed until the product of the others is `output_stride`. Before a layer with stride 2, Keras's model
    has a padding layer that is equivalent to TensorFlow's "same" padding. The clone replaces it by an identity, and
    gives the layer "same" padding, whether or not its stride is removed.
    """
    import keras

    surplus = OUTPUT_STRIDES[-1] // output_stride

    def clone(layer: Any) -> Any:
        nonlocal surplus
        if isinstance(layer, keras.layers.ZeroPadding2D):
            return keras.layers.Identity(name=layer.name)
        settings = layer.get_config()
        if settings.get("strides") in ((2, 2), [2, 2], 2):
            settings["padding"] = "same"
            if surplus > 1:
                surplus //= 2
                settings["strides"] = (1, 1)
        return type(layer).from_config(settings)

    return keras.models.clone_model(model, keras.Input(input_shape), clone_function=clone)
