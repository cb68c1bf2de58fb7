"""Open a user's Keras model (.keras, or .h5 from Keras 3 or 2) or SavedModel folder."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.errors import InputError, ModelError, one_line
from edgeq.files import sha256_of_file, sha256_of_folder
from edgeq.networks.network import Network, in_new_session, require_tensorflow
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing, default_crop
from edgeq.quiet import quiet
from edgeq.tflite.metadata import read_metadata

__all__ = ["KERAS_SUFFIXES", "load_keras", "open_network"]

KERAS_SUFFIXES = (".keras", ".h5", ".hdf5")
"""Suffixes of the files that `load_keras` reads."""

_OTHER_TASK = "convert other models with --task tensors"
_NOT_ONE_EACH = f"an image classifier has one each; {_OTHER_TASK}"
_LARGEST_PIXEL_SCALE = 0.02  # a Rescaling layer with a smaller scale, such as 1/127.5 or 1/255, takes pixel values
_SMALLEST_PIXEL_MEAN = 2.0  # a Normalization layer with a larger mean takes values in 0..255, not in 0..1 or -1..1


@quiet()
def open_network(path: str | Path, size: tuple[int, int] | None = None) -> Network:
    """Open the user's image classifier.

    Args:
        path: a .keras or .h5 file, or a SavedModel folder.
        size: (height, width) of the input in pixels, for a network that does not fix them.

    Raises:
        InputError: the file does not exist, the network has a fixed input size other than `size`, or it leaves its size
            open and `size` is None.
        ModelError: the network cannot be loaded, or is not an image classifier.
        EdgeqError: TensorFlow is not installed.
    """
    source = Path(path)
    if source.is_dir():
        if not (source / "saved_model.pb").is_file():
            raise ModelError(f"{path}: is a folder, but not a SavedModel (no saved_model.pb in it)")
        require_tensorflow()
        return _from_saved_model(source, size)
    if not source.is_file():
        raise InputError(f"{path}: no such model")
    if source.suffix.lower() == ".tflite":
        raise ModelError(f"{path}: is a TFLite model already; give the Keras model or SavedModel it was made from")
    if source.suffix.lower() not in KERAS_SUFFIXES:
        raise ModelError(f"{path}: neither a Keras model ({', '.join(KERAS_SUFFIXES)}) nor a SavedModel folder")
    require_tensorflow()
    return _from_keras(source, size)


def load_keras(path: Path) -> Any:
    """Load a .keras or .h5 file, from Keras 3 or 2, and return the ``keras.Model``.

    Raises:
        ModelError: Keras cannot load it.
    """
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]
        """Accepts the argument ``groups``, which Keras 2 saved without effect and Keras 3 does not accept."""

        def __init__(self, *args: Any, groups: int = 1, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)

    def load() -> Any:
        return keras.models.load_model(path, compile=False, custom_objects={"DepthwiseConv2D": DepthwiseConv2D})

    try:
        return in_new_session(load)
    except Exception as error:  # Keras raises exceptions of many types for files that it cannot read
        reason = str(error).rpartition("Exception encountered: ")[2]  # after the network's whole configuration
        raise ModelError(f"{path}: Keras cannot load this model ({one_line(reason)})") from None


def _from_keras(path: Path, size: tuple[int, int] | None) -> Network:
    model = load_keras(path)
    if len(model.inputs) != 1 or len(model.outputs) != 1:
        raise ModelError(f"{path}: has {len(model.inputs)} inputs and {len(model.outputs)} outputs; {_NOT_ONE_EACH}")
    return _network(
        path,
        tuple(model.inputs[0].shape),
        tuple(model.outputs[0].shape),
        size,
        function=lambda x: model(x, training=False),
        keeps_alive=model,
        normalization=NORMALIZATIONS["0..255"] if _rescales(model) else None,
    )


def _rescales(model: Any) -> bool:
    """Return whether a layer normalizes pixels before the first layer with weights, in this or a nested model."""
    for layer in model.layers:
        if _takes_pixels(layer) or (hasattr(layer, "layers") and _rescales(layer)):
            return True
        if layer.weights:
            return False
    return False


def _takes_pixels(layer: Any) -> bool:
    """Return whether a layer normalizes pixel values 0 to 255, and not values in 0..1, judging by its constants."""
    if type(layer).__name__ == "Rescaling":
        return float(np.max(layer.scale)) <= _LARGEST_PIXEL_SCALE
    if type(layer).__name__ == "Normalization" and layer.mean is not None:
        return float(np.max(layer.mean)) > _SMALLEST_PIXEL_MEAN
    return False


def _from_saved_model(path: Path, size: tuple[int, int] | None) -> Network:
    import tensorflow as tf

    try:
        loaded = tf.saved_model.load(str(path))
        signature = loaded.signatures["serving_default"]
    except Exception as error:  # a missing signature raises KeyError, a damaged file exceptions of many types
        raise ModelError(f"{path}: TensorFlow cannot load this SavedModel ({one_line(error)})") from None
    inputs, outputs = signature.structured_input_signature[1], signature.structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise ModelError(f"{path}: has {len(inputs)} inputs and {len(outputs)} outputs; {_NOT_ONE_EACH}")
    ((input_name, input_spec),) = inputs.items()
    ((output_name, output_spec),) = outputs.items()
    if input_spec.dtype != tf.float32:
        raise ModelError(f"{path}: takes {input_spec.dtype.name}; only float32 networks can be converted")
    if input_spec.shape.rank is None or output_spec.shape.rank is None:
        raise ModelError(f"{path}: leaves open how many dimensions its input or output has")
    return _network(
        path,
        tuple(input_spec.shape),
        tuple(output_spec.shape),
        size,
        function=lambda x: signature(**{input_name: x})[output_name],
        keeps_alive=loaded,
        normalization=None,  # unknown: a SavedModel does not show its layers
    )


def _network(
    path: Path,
    input_shape: tuple[int | None, ...],
    output_shape: tuple[int | None, ...],
    size: tuple[int, int] | None,
    *,
    function: Callable[[Any], Any],
    keeps_alive: Any,
    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None,
) -> Network:
    """Make a network, after checking that its shapes are those of an image classifier."""
    outputs = output_shape[-1] if output_shape else None
    one_per_picture = all(n in (1, None) for n in output_shape[:-1])
    if len(input_shape) != 4 or input_shape[3] not in (1, 3) or outputs is None or not one_per_picture:
        raise ModelError(
            f"{path}: maps {input_shape} to {output_shape}; an image classifier maps (batch, height, width, 1 or 3) "
            f"to (batch, classes); {_OTHER_TASK}"
        )
    height, width = input_shape[1], input_shape[2]
    if height is None or width is None:
        if size is None:
            raise InputError(f"{path}: leaves its input size open; give --res")
        height, width = size
    elif size is not None and size != (height, width):
        raise InputError(f"{path}: is made for {width}x{height} pixels, not {size[1]}x{size[0]}; omit --res")
    metadata = read_metadata(path)  # empty for a SavedModel, which is a folder
    preprocessing = metadata.preprocessing
    if preprocessing is None and normalization is not None:
        channels = "L" if input_shape[3] == 1 else "RGB"
        preprocessing = Preprocessing(height, width, *normalization, channels, default_crop(height, width))
    sha256 = sha256_of_folder(path) if path.is_dir() else sha256_of_file(path)
    network = Network(
        name=path.resolve().name if path.is_dir() else path.stem,
        height=height,
        width=width,
        channels=input_shape[3],
        outputs=outputs,
        function=function,
        keeps_alive=keeps_alive,
        parent={"file": path.name, "sha256": sha256} | metadata.provenance,
        labels=metadata.labels,
        preprocessing=preprocessing,
        held_out=frozenset(metadata.held_out),
    )
    # A .keras file from another tool may contain text files that are not labels.
    return network if len(network.labels) == network.classes else replace(network, labels=())
