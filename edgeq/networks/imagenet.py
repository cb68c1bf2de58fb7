"""ImageNet weights and class names, from Keras's cache or downloaded by Keras."""

from __future__ import annotations

import contextlib
import logging
import os
import socket
from collections.abc import Iterator
from pathlib import Path

from edgeq.errors import UnavailableWeightsError, WeightsError, one_line
from edgeq.networks.architecture import Architecture
from edgeq.networks.network import in_new_session

__all__ = ["IMAGENET_CLASSES", "imagenet_labels", "imagenet_weights"]

IMAGENET_CLASSES = 1000
_log = logging.getLogger(__name__)
_V2_SIZES = dict.fromkeys((0.35, 0.5, 0.75, 1.0), (96, 128, 160, 192, 224)) | {1.3: (224,), 1.4: (224,)}
_V3_ALPHAS = {"large": (0.75, 1.0), "small": (0.75, 1.0), "large_minimalistic": (1.0,), "small_minimalistic": (1.0,)}
_PATIENCE_SECONDS = 15  # time-out for a server that does not answer; Keras has none


def imagenet_weights(architecture: Architecture) -> Path:
    """Return the file with an architecture's ImageNet weights in Keras's cache; Keras downloads it if necessary.

    Raises:
        WeightsError: no such weights were published.
        UnavailableWeightsError: the weights are not in the cache and cannot be downloaded.
    """
    name, known = _file_name(architecture)
    if architecture.alpha not in known:
        listed = ", ".join(map(str, known))
        raise WeightsError(
            f"no ImageNet weights exist for {architecture.family} of width multiplier {architecture.alpha}, only for "
            f"{listed}"
        )
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "models" / name
    reason = f"{home} cannot be written to"  # Keras then silently uses another folder
    if not path.is_file():
        try:
            with _limited_patience():
                in_new_session(lambda: _fetch(architecture))
        except Exception as error:  # Keras raises `Exception`, and a failed download exceptions of many types
            reason = one_line(error)
    if not path.is_file():
        raise UnavailableWeightsError(
            f"ImageNet's weights are unavailable: Keras found no {name} and could not download it ({reason}). Put it "
            f"into {path.parent} (or set KERAS_HOME), or use --weights bundled for the small network that comes with "
            "edgeq, --weights PATH for weights of your own, or --weights none for random ones",
            reason,
        )
    return path


def imagenet_labels() -> tuple[str, ...]:
    """Return ImageNet's 1000 class names from Keras. If they are unavailable, log a message and return none."""
    import keras
    import numpy as np

    try:
        with _limited_patience():
            decoded = keras.applications.mobilenet_v2.decode_predictions(np.eye(IMAGENET_CLASSES), top=1)
    except Exception as error:  # no connection and no cached file; a network works without names
        _log.info("ImageNet's class names are unavailable (%s)", one_line(error))
        return ()
    return tuple(str(best[0][1]).replace("_", " ") for best in decoded)


def _file_name(architecture: Architecture) -> tuple[str, tuple[float, ...]]:
    """Return Keras's name of the weights file, and the width multipliers for which there are files."""
    alpha = float(architecture.alpha)
    if architecture.family == "mobilenet_v2":
        size = _published_size(architecture)
        return f"mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}.h5", tuple(_V2_SIZES)
    variant = architecture.family.removeprefix("mobilenet_v3_")
    return f"weights_mobilenet_v3_{variant}_224_{alpha}_float.h5", _V3_ALPHAS[variant]


def _published_size(architecture: Architecture) -> int:
    """Return the input size whose weights to use: the network's own if MobileNetV2 weights exist for it, else 224."""
    height, width = architecture.height, architecture.width
    return height if height == width and height in _V2_SIZES.get(architecture.alpha, ()) else 224


def _fetch(architecture: Architecture) -> None:
    """Build the network with weights, so that Keras downloads them."""
    import keras

    options = {"alpha": float(architecture.alpha), "weights": "imagenet"}
    if architecture.family == "mobilenet_v2":
        size = _published_size(architecture)
        keras.applications.MobileNetV2((size, size, 3), **options)
        return
    large = "large" in architecture.family
    build = keras.applications.MobileNetV3Large if large else keras.applications.MobileNetV3Small
    build((224, 224, 3), minimalistic="minimalistic" in architecture.family, **options)


@contextlib.contextmanager
def _limited_patience() -> Iterator[None]:
    before = socket.getdefaulttimeout()
    socket.setdefaulttimeout(_PATIENCE_SECONDS)
    try:
        yield
    finally:
        socket.setdefaulttimeout(before)
