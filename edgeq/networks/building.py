"""Build a MobileNet with weights: ImageNet's, those of a bundled network, those in a file, or random ones."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import UnavailableWeightsError, WeightsError, one_line
from edgeq.files import sha256_of_file
from edgeq.networks.architecture import OUTPUT_STRIDES, Architecture, default_output_stride
from edgeq.networks.bundled import bundled_for
from edgeq.networks.imagenet import IMAGENET_CLASSES, imagenet_labels, imagenet_weights
from edgeq.networks.mobilenet_v2 import mobilenet_v2
from edgeq.networks.mobilenet_v3 import mobilenet_v3
from edgeq.networks.network import Network, in_new_session, require_tensorflow
from edgeq.quiet import quiet

__all__ = ["NAMED_WEIGHTS", "build_keras_model", "build_network", "load_weights", "randomize"]

NAMED_WEIGHTS = ("auto", "imagenet", "bundled", "none")


@quiet()
def build_network(
    family: str = "mobilenet_v2",
    height: int = 224,
    width: int = 224,
    *,
    alpha: float | None = None,
    classes: int | None = None,
    output_stride: int | None = None,
    head: int | None = None,
    weights: str = "auto",
    seed: int = 0,
) -> Network:
    """Build a MobileNet with the given input size, and load weights.

    Args:
        family: one of `FAMILIES`.
        height: height of the input in pixels.
        width: width of the input in pixels.
        alpha: width multiplier; None for that of the bundled weights if they are used, else 1.0.
        classes: number of classes; None for that of the bundled weights if they are used, else 1000.
        output_stride: see `Architecture`; None for `default_output_stride`.
        head: see `Architecture`.
        weights: ``imagenet``; ``bundled`` for those that come with edgeq; ``auto`` for ImageNet's if available, else
            the bundled ones if they fit; ``none`` for random weights; or the path of a Keras weights file.
        seed: random seed of random weights.

    Raises:
        InputError: a size, width multiplier or other argument is invalid.
        WeightsError: the weights are unavailable, or do not fit.
        EdgeqError: TensorFlow is not installed.
    """
    if output_stride is None:
        output_stride = default_output_stride(height, width)
    wanted = Architecture(
        family,
        height,
        width,
        1.0 if alpha is None else alpha,
        output_stride,
        IMAGENET_CLASSES if classes is None else classes,
        head,
    )
    if weights not in NAMED_WEIGHTS and not Path(weights).is_file():
        raise WeightsError(f"{weights}: no such weights file (--weights takes {', '.join(NAMED_WEIGHTS)} or a path)")
    require_tensorflow()
    if weights == "auto":
        chosen = _automatic(wanted, own_choice=(alpha, classes, head) != (None, None, None))
    elif weights == "imagenet":
        chosen = _imagenet(wanted)
    elif weights == "bundled":
        chosen = _bundled(wanted, alpha, classes)
    else:
        chosen = _Chosen(wanted, None if weights == "none" else Path(weights))
    return _filled(chosen, seed)


def build_keras_model(architecture: Architecture, activation: str = "softmax") -> Any:
    """Build an architecture with Keras's random weights.

    Args:
        architecture: the architecture.
        activation: activation of the scores: ``softmax`` for probabilities, ``linear`` for logits.

    Returns:
        A `keras.Model` from (N, height, width, 3) float32, in the range of `architecture.preprocessing`, to
        (N, classes) float32.

    Raises:
        EdgeqError: TensorFlow is not installed.
    """
    require_tensorflow()
    build = mobilenet_v2 if architecture.family == "mobilenet_v2" else mobilenet_v3
    return build(architecture, activation)


@dataclass(frozen=True)
class _Chosen:
    """The chosen weights and their architecture.

    Attributes:
        architecture: the architecture, with the weights' width multiplier and number of classes.
        path: path of the weights file; None for random weights.
        name: name of the weights in the provenance; None for the file's name.
        labels: names of the classes, or empty.
        whole_pictures: whether the weights were trained on whole images, so that no centre crop is needed.
        remark: a note to the user on the choice, or empty.
    """

    architecture: Architecture
    path: Path | None
    name: str | None = None
    labels: tuple[str, ...] = ()
    whole_pictures: bool = False
    remark: str = ""


def _automatic(wanted: Architecture, own_choice: bool) -> _Chosen:
    """Choose ImageNet's weights if available, else the bundled ones.

    Args:
        wanted: the requested architecture.
        own_choice: whether the user chose the width multiplier, the classes or the head. Then the bundled weights are
            no substitute, and an error is raised.
    """
    try:
        return _imagenet(wanted)
    except UnavailableWeightsError as error:
        reason = error.reason
        if own_choice or wanted.family != bundled_for(wanted.output_stride).family:
            raise
    chosen = _bundled(wanted, None, None)
    remark = (
        f"ImageNet's weights are neither in Keras's cache nor can they be downloaded ({reason}): took {chosen.name}, "
        f"which comes with edgeq and distinguishes {len(chosen.labels)} classes ({', '.join(chosen.labels[:3])}, ...)."
    )
    return replace(chosen, remark=remark)


def _imagenet(wanted: Architecture) -> _Chosen:
    if wanted.head is not None:
        raise WeightsError("ImageNet's weights have their own head; omit --head, or use --weights none or PATH")
    if wanted.classes != IMAGENET_CLASSES:
        raise WeightsError(
            f"ImageNet's weights have {IMAGENET_CLASSES} classes, not {wanted.classes}; use --weights PATH for your "
            "own weights, or --weights none for random ones"
        )
    return _Chosen(wanted, imagenet_weights(wanted), "imagenet", imagenet_labels())


def _bundled(wanted: Architecture, alpha: float | None, classes: int | None) -> _Chosen:
    bundled = bundled_for(wanted.output_stride)
    own = wanted.family != bundled.family or wanted.head is not None
    if own or alpha not in (None, bundled.alpha) or classes not in (None, len(bundled.labels)):
        raise WeightsError(
            f"the weights that come with edgeq are for {bundled.family} of width multiplier {bundled.alpha} and "
            f"{len(bundled.labels)} classes; omit --network, --alpha, --classes and --head"
        )
    architecture = replace(wanted, alpha=bundled.alpha, classes=len(bundled.labels))
    return _Chosen(architecture, bundled.weights, bundled.name, bundled.labels, whole_pictures=True)


def _filled(chosen: _Chosen, seed: int) -> Network:
    """Build the network, load the weights, and add the metadata."""
    architecture = chosen.architecture
    model = in_new_session(lambda: build_keras_model(architecture))
    facts: dict[str, Any]
    if chosen.path is None:
        randomize(model, seed)
        facts = {"weights": "random", "seed": seed}
    else:
        load_weights(model, chosen.path)
        facts = {"weights": chosen.name or chosen.path.name, "sha256": sha256_of_file(chosen.path)}
    remarks = [chosen.remark] if chosen.remark else []
    if architecture.output_stride != OUTPUT_STRIDES[-1]:
        rows, columns = architecture.last_map
        remarks.append(f"Output stride {architecture.output_stride}: the last feature map has {columns}x{rows} cells.")
    preprocessing = architecture.preprocessing
    return Network(
        name=architecture.name,
        height=architecture.height,
        width=architecture.width,
        channels=3,
        outputs=architecture.classes,
        function=lambda x: model(x, training=False),
        keeps_alive=model,
        parent=architecture.to_json() | facts,
        labels=chosen.labels,
        preprocessing=replace(preprocessing, crop=1.0) if chosen.whole_pictures else preprocessing,
        remarks=tuple(remarks),
    )


def load_weights(model: Any, path: Path) -> None:
    """Load a weights file into a Keras model.

    Raises:
        WeightsError: the weights do not fit.
    """
    try:
        model.load_weights(path)
    except Exception as error:  # Keras and h5py raise exceptions of many types for files that do not fit
        raise WeightsError(
            f"{path}: these weights do not fit this network; check --network, --alpha, --classes and --head "
            f"({one_line(error)})"
        ) from None


def randomize(model: Any, seed: int) -> None:
    """Set random kernels that preserve the signal's power from layer to layer (He et al. 2015, arXiv 1502.01852).

    With Keras's own initial depthwise kernels, the power falls to 1e-7, which integers cannot represent.
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
