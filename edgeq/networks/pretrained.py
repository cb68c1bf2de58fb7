"""MobileNetV2 with weights: ImageNet's through Keras's own cache and download, a file's, or random ones."""

from __future__ import annotations

import contextlib
import math
import os
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import InputError, WeightsError, one_line
from edgeq.files import sha256_of_file
from edgeq.networks.network import Network, require_tensorflow

__all__ = ["build_mobilenet_v2"]

_IMAGENET_CLASSES = 1000
_IMAGENET_SIZES = dict.fromkeys((0.35, 0.5, 0.75, 1.0), (96, 128, 160, 192, 224)) | {
    1.3: (224,),
    1.4: (224,),
}
_IMAGENET_FILE = "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_{alpha}_{size}.h5"


def build_mobilenet_v2(
    height: int = 224,
    width: int = 224,
    alpha: float = 1.0,
    classes: int | None = None,
    weights: str = "imagenet",
    seed: int = 0,
) -> Network:
    """Build MobileNetV2 (arXiv 1801.04381) for an input of that size, and fill in weights.

    Args:
        height: of the input, in pixels.
        width: of the input, in pixels.
        alpha: width multiplier.
        classes: how many; None takes ImageNet's 1000.
        weights: ``imagenet``, ``none`` for random ones, or the path of a Keras weights file.
        seed: of random weights.

    Raises:
        InputError: a size or a width multiplier that cannot be.
        WeightsError: the weights cannot be had, or do not fit.
        EdgeqError: TensorFlow is not installed.
    """
    if not 0 < alpha < math.inf:
        raise InputError(f"width multiplier {alpha}: must be positive")
    labels: tuple[str, ...] = ()
    path: Path | None = None
    if weights == "imagenet" and classes not in (None, _IMAGENET_CLASSES):
        raise WeightsError(
            f"ImageNet's weights have {_IMAGENET_CLASSES} classes, not {classes}; use --weights PATH for weights "
            "of your own, or --weights none for random ones"
        )
    if weights not in ("imagenet", "none"):
        path = Path(weights)
        if not path.is_file():
            raise WeightsError(f"{weights}: no such weights file (--weights takes imagenet, none or a path)")
    require_tensorflow()
    if weights == "imagenet":
        path = _imagenet_weights(alpha, height, width)
        labels = _imagenet_labels()
    classes = classes or _IMAGENET_CLASSES
    model = _build(height, width, alpha, classes)
    parent: dict[str, Any] = {"architecture": "MobileNetV2", "alpha": alpha}
    if path is None:
        _randomize(model, seed)
        parent |= {"weights": "random", "seed": seed}
    else:
        _load(model, path)
        name = "imagenet" if weights == "imagenet" else path.name
        parent |= {"weights": name, "sha256": sha256_of_file(path)}
    size = str(height) if height == width else f"{width}x{height}"
    return Network(
        name=f"mobilenet_v2_{alpha}_{size}",
        height=height,
        width=width,
        channels=3,
        classes=classes,
        function=lambda x: model(x, training=False),
        keeps_alive=model,
        parent=parent,
        labels=labels,
    )


def _build(height: int, width: int, alpha: float, classes: int) -> Any:
    import keras

    from edgeq.networks.mobilenet_v2 import mobilenet_v2

    keras.backend.clear_session()  # layer names, hence bytes, must not depend on what was built before
    return mobilenet_v2((height, width, 3), alpha=alpha, classes=classes)


def _randomize(model: Any, seed: int) -> None:
    """Draw kernels that keep the signal's power from layer to layer (He et al. 2015, arXiv 1502.01852).

    Keras's own initial depthwise kernels let it fade to 1e-7, which no integer can represent.
    """
    rng = np.random.default_rng(seed)
    for layer in model.layers:
        weights = layer.get_weights()
        if weights and weights[0].ndim == 4:
            height, width, inputs, _ = weights[0].shape
            fan_in = height * width * (1 if "depthwise" in layer.name else inputs)
            weights[0] = rng.normal(0, np.sqrt(2 / fan_in), weights[0].shape).astype(np.float32)
        elif weights and weights[0].ndim == 2:
            weights[0] = rng.normal(0, np.sqrt(1 / weights[0].shape[0]), weights[0].shape).astype(np.float32)
        layer.set_weights(weights)


def _load(model: Any, path: Path) -> None:
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise nearly anything for files that do not fit
        raise WeightsError(
            f"{path}: these weights do not fit this network; check --alpha and --classes ({one_line(error)})"
        ) from None


def _imagenet_weights(alpha: float, height: int, width: int) -> Path:
    """The weights file in Keras's cache, which Keras fills if it can."""
    import keras

    if alpha not in _IMAGENET_SIZES:
        known = ", ".join(map(str, _IMAGENET_SIZES))
        raise WeightsError(f"no ImageNet weights exist for width multiplier {alpha}, only for {known}")
    sizes = _IMAGENET_SIZES[alpha]
    size = height if height == width and height in sizes else 224
    home = Path(os.environ.get("KERAS_HOME") or Path.home() / ".keras")
    path = home / "models" / _IMAGENET_FILE.format(alpha=alpha, size=size)
    if not path.is_file():
        with contextlib.suppress(Exception):  # whatever it is, the file is not there then
            keras.applications.MobileNetV2((size, size, 3), alpha=alpha, weights="imagenet")
    if not path.is_file():
        raise WeightsError(
            f"ImageNet's weights cannot be had: Keras found no {path.name} and could not download it. Put it into "
            f"{path.parent} (or set KERAS_HOME), or use --weights PATH for weights of your own, or --weights none "
            "for random ones"
        )
    return path


def _imagenet_labels() -> tuple[str, ...]:
    """ImageNet's 1000 class names as Keras has them, or none where its list cannot be had."""
    import keras

    try:
        decoded = keras.applications.mobilenet_v2.decode_predictions(np.eye(_IMAGENET_CLASSES), top=1)
    except Exception:  # no network and no imagenet_class_index.json: a network without names still works
        return ()
    return tuple(str(best[0][1]).replace("_", " ") for best in decoded)
