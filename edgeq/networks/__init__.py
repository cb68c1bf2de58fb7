"""Float networks: build a MobileNet, or open the user's Keras model or SavedModel.

Importing this package does not import TensorFlow; building or opening a network does.
"""

from __future__ import annotations

from edgeq.networks.architecture import (
    FAMILIES,
    OUTPUT_STRIDES,
    Architecture,
    choose_output_stride,
    default_output_stride,
)
from edgeq.networks.building import build_keras_model, build_network
from edgeq.networks.network import Network
from edgeq.networks.opening import open_network
from edgeq.networks.sizes import NetworkSummary, summarize

__all__ = [
    "FAMILIES",
    "OUTPUT_STRIDES",
    "Architecture",
    "Network",
    "NetworkSummary",
    "build_keras_model",
    "build_network",
    "choose_output_stride",
    "default_output_stride",
    "open_network",
    "summarize",
]
