"""Export a Keras model or SavedModel that is no image classifier to a float .tflite file."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from edgeq.errors import ConversionError, ModelError, one_line
from edgeq.files import temporary_folder
from edgeq.networks.network import require_tensorflow
from edgeq.networks.opening import KERAS_SUFFIXES, load_keras
from edgeq.quiet import quiet

__all__ = ["export_keras", "is_keras"]

_SIGNATURE = "serving_default"


def is_keras(source: str | Path) -> bool:
    """Return whether a path is that of a Keras model or SavedModel folder, judging by its name and content."""
    path = Path(source)
    return path.suffix.lower() in KERAS_SUFFIXES or (path / "saved_model.pb").is_file()


def export_keras(source: str | Path, out: str | Path, *, verbose: bool = False) -> None:
    """Export a network to a float32 .tflite file with a signature of the inputs' and outputs' names.

    A Keras model gets batch size 1. A SavedModel keeps the shapes of its signature ``serving_default``.

    Args:
        source: a .keras or .h5 file, or a SavedModel folder.
        out: the .tflite file to write.
        verbose: whether to let TensorFlow print its messages.

    Raises:
        ModelError: the network cannot be loaded, or leaves open a dimension other than the batch.
        ConversionError: the converter does not support the network.
        EdgeqError: TensorFlow is not installed.
    """
    require_tensorflow()
    import tensorflow as tf

    source = Path(source)
    with quiet(verbose), temporary_folder() as folder:
        saved = source
        if not source.is_dir():
            saved = folder
            _save(load_keras(source), saved, source)
        try:
            content = tf.lite.TFLiteConverter.from_saved_model(str(saved), signature_keys=[_SIGNATURE]).convert()
        except Exception as error:  # the converter raises exceptions of many types, mostly with messages from C++
            raise ConversionError(f"{source}: cannot be converted to float32: {one_line(error)}") from None
    Path(out).write_bytes(content)


def _save(model: Any, folder: Path, source: Path) -> None:
    """Save a Keras model as a SavedModel at batch size 1, whose signature has the model's names."""
    import tensorflow as tf

    specs = {}
    for tensor in model.inputs:
        shape = (1, *tensor.shape[1:])
        if None in shape:
            raise ModelError(
                f"{source}: leaves the size of its input {tensor.name} open; save the model with a fixed size"
            )
        specs[tensor.name] = tf.TensorSpec(shape, tensor.dtype, tensor.name)

    def run(*tensors: Any) -> dict[str, Any]:
        # A functional model takes its inputs in the structure that it was built with.
        given = tf.nest.pack_sequence_as(model.input, tensors)
        found = model(given, training=False)
        if isinstance(found, dict):
            return found
        return dict(zip(model.output_names, tf.nest.flatten(found), strict=True))

    module = tf.Module()
    module.run = tf.function(run, input_signature=list(specs.values()), autograph=False)
    module.variables_of_model = [variable.value for variable in model.variables]
    try:
        tf.saved_model.save(module, str(folder), {_SIGNATURE: module.run.get_concrete_function()})
    except Exception as error:  # layers raise exceptions of many types
        raise ConversionError(f"{source}: cannot be run at batch size 1: {one_line(error)}") from None
