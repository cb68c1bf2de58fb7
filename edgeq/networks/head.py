"""The head of a network: the layers from the last feature map to one score per class."""

from __future__ import annotations

from typing import Any

from edgeq.networks.architecture import Architecture

__all__ = ["CLASSIFIER", "POOLING", "add_head"]

POOLING = "global_average_pooling2d"
CLASSIFIER = "predictions"
"""Names of the head's layers, the same as in Keras's MobileNetV2."""


def add_head(features: Any, architecture: Architecture, activation: str) -> Any:
    """Add global average pooling, a layer of `architecture.head` units (if any), and the classifier.

    Args:
        features: the last feature map, (N, H, W, C) float32, symbolic.
        architecture: the architecture; only its `head` and `classes` are used.
        activation: activation of the scores.

    Returns:
        The scores, (N, classes) float32, symbolic.
    """
    from keras import layers

    x = layers.GlobalAveragePooling2D(name=POOLING)(features)
    if architecture.head:
        x = layers.Dense(architecture.head, activation="relu", name="head")(x)
    return layers.Dense(architecture.classes, activation=activation, name=CLASSIFIER)(x)
