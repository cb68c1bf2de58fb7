"""Float networks: MobileNetV2 built here, or a Keras model or SavedModel of the user's.

Importing this imports no TensorFlow; building or opening a network does.
"""

from __future__ import annotations

from edgeq.networks.network import Network
from edgeq.networks.opening import open_network
from edgeq.networks.pretrained import build_mobilenet_v2

__all__ = ["Network", "build_mobilenet_v2", "open_network"]
