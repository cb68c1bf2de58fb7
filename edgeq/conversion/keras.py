"""Convert with TensorFlow's converter, from one frozen graph for all formats.

The network is traced at batch 1 and its variables are frozen to constants. The alternative,
``TFLiteConverter.from_keras_model``, has two drawbacks. It saves and reloads a SavedModel for every format, which takes
longer than the conversion. And it leaves the batch size dynamic, which adds SHAPE, STRIDED_SLICE and PACK operators to
MobileNetV3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from edgeq.calibration import CalibrationSet
from edgeq.conversion.formats import Format
from edgeq.errors import ConversionError, one_line
from edgeq.networks import Network
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress

__all__ = ["FrozenNetwork", "freeze"]


class FrozenNetwork:
    """A float network as a graph at batch 1 whose variables are constants, ready for the converter."""

    def __init__(self, name: str, graph: Any) -> None:
        self.name = name
        self._graph = graph

    def to_tflite(
        self,
        form: Format,
        calibration: CalibrationSet | None,
        preprocessing: Preprocessing,
        progress: Progress,
        targets: Sequence[str] = (),
    ) -> bytes:
        """Convert to a .tflite flatbuffer, in any format but ``int8``.

        Args:
            form: the format to convert to.
            calibration: the representative dataset, for ``int16x8``.
            preprocessing: how the dataset's pixels become the network's input.
            progress: called with (stage, done, total).
            targets: names in ``edgeq.inspection.TARGETS``: where the file is to run.

        Raises:
            ConversionError: the converter does not support the network.
        """
        import tensorflow as tf

        converter = tf.lite.TFLiteConverter.from_concrete_functions([self._graph])
        if form.name != "fp32":
            converter.optimizations = [tf.lite.Optimize.DEFAULT]
        if form.name == "dynamic" and any(target.startswith("tflite-runtime") for target in targets):
            # Per-channel weights need version 12 of FULLY_CONNECTED, which is newer than tflite-runtime's last release.
            converter._experimental_disable_per_channel_quantization_for_dense_layers = True
        if form.name == "fp16":
            converter.target_spec.supported_types = [tf.float16]
        if form.calibrated:
            assert calibration is not None
            converter.representative_dataset = lambda: _representative(calibration, preprocessing, progress)
            operators = tf.lite.OpsSet.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            converter.target_spec.supported_ops = [operators]
        try:
            return bytes(converter.convert())
        except Exception as error:  # the converter raises exceptions of many types, mostly with messages from C++
            raise ConversionError(f"{self.name}: cannot be converted to {form.name}: {_reason(error)}") from None


def freeze(network: Network, logits: bool = False) -> FrozenNetwork:
    """Trace a network at batch 1 and turn its variables into constants.

    Args:
        network: the network.
        logits: whether to remove the softmax or sigmoid at its end.

    Raises:
        ConversionError: the network cannot be run on an input of its size, or has no softmax or sigmoid to remove.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import convert_variables_to_constants_v2

    shape = (1, network.height, network.width, network.channels)

    # The argument's name, `image`, becomes the input's name in the file.
    def classify(image: Any) -> Any:
        return tf.reshape(network.function(image), (1, network.outputs))

    traced = tf.function(classify, autograph=False, input_signature=[tf.TensorSpec(shape, tf.float32)])
    function = None
    try:
        function = traced.get_concrete_function()
        graph = convert_variables_to_constants_v2(function)
    except Exception as error:  # mismatched shapes raise ValueError, TypeError and others
        if function is not None and _changes_variables(function):
            raise ConversionError(
                f"{network.name}: changes variables when it runs, as RandomFlip and other layers for training do in a "
                "SavedModel; give the .keras file that it was made from, or export it without these layers"
            ) from None
        raise ConversionError(f"{network.name}: cannot be run on input {shape}: {_reason(error)}") from None
    return FrozenNetwork(network.name, _without_softmax(network.name, graph) if logits else graph)


def _changes_variables(function: Any) -> bool:
    definition = function.graph.as_graph_def()
    nodes = [*definition.node, *(node for part in definition.library.function for node in part.node_def)]
    return any(node.op.startswith(("Assign", "RngReadAndSkip")) for node in nodes)


def _without_softmax(name: str, graph: Any) -> Any:
    """Return the graph without its final softmax or sigmoid: it ends in the logits."""
    last = graph.outputs[0].op
    while last.type in ("Identity", "Reshape"):
        last = last.inputs[0].op
    if last.type not in ("Softmax", "Sigmoid"):
        raise ConversionError(f"{name}: outputs logits already: it ends in {last.type}, not in a softmax or sigmoid")
    return graph.prune(graph.inputs, last.inputs[0])


def _representative(
    calibration: CalibrationSet, preprocessing: Preprocessing, progress: Progress
) -> Iterator[list[Any]]:
    """Yield each image as the converter expects it: a list with one (1, height, width, channels) float32 array.

    The first image gets one black and one white pixel in its corner. The input's range then covers all pixel values,
    even if the calibration images do not, and no image saturates at the input.
    """
    total = len(calibration.pixels)
    first = calibration.pixels[0].copy()
    first[0, 0], first[0, 1] = 0, 255
    for done, pixels in enumerate([first, *calibration.pixels[1:]]):
        progress("Calibrating", done, total)
        yield [np.ascontiguousarray(preprocessing.normalize(pixels)[np.newaxis])]
    progress("Calibrating", total, total)


def _reason(error: Exception) -> str:
    """Return the line of a converter's message that says what is not supported, or the start of the message."""
    lines = [line for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "not" in line.lower() or "error" in line.lower()]
    return one_line(telling[0]) if telling else one_line(error)
