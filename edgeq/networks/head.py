"""The head of a network: from the last feature map to one score per class."""

from __future__ import annotations

from typing import Any

from edgeq.networks.architecture import Architecture

__all__ = ["CLASSIFIER", "POOLING", "add_head"]

POOLING = "global_average_pooling2d"
CLASSIFIER = "predictions"
"""Names of the layers in Keras's MobileNetV2."""


def add_head(features: Any, architecture: Architecture, activation: str) -> Any:
    """Global average pooling, the units that `architecture.head` asks for, and the classifier.

    Args:
        features: (N, H, W, C) float32, the last feature map, symbolic.
        architecture: whose `head` and `classes` count.
        activation: of the scores.

    Returns:
        (N, classes) float32, symbolic.
    """
    from keras import layers

    x = layers.GlobalAveragePooling2D(name=POOLING)(features)
    if architecture.head:
        x = layers.Dense(architecture.head, activation="relu", name="head")(x)
    return layers.Dense(architecture.classes, activation=activation, name=CLASSIFIER)(x)
