"""Correcting one integer layer, so that its outputs have the float layer's mean and follow it at full strength.

Three things, each free at run time: weights are rounded anew (`edgeq.refinement.rounding`), one factor on the
scales of the weights restores the strength of the signal, and the bias moves the mean. Before its activation a layer
is linear, so both follow from its input patches.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Inputs
from edgeq.refinement.rounding import Moments, compensated_weights, round_weights
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Tensor

__all__ = ["correct_bias", "correct_scale", "gptq_round"]

_LEAST_SLOPE = 0.5  # a layer that has lost more than half its signal has another fault than rounding
_INT8_WEIGHTS = (-127, 127)  # TFLite's quantization specification leaves out -128


def gptq_round(
    editor: GraphEditor,
    layer: Layer,
    reference: Layer,
    seen: Inputs,
    expected: Inputs,
    extra: int,
    compensate: bool = False,
) -> bool:
    """Round the float layer's weights anew, so that the error is least on what the integer layer reads.

    Args:
        editor: of the integer network.
        layer: in it.
        reference: its counterpart in the float network.
        seen: what the integer layer reads.
        expected: what the float layer reads, at the same positions.
        extra: output channels of the integer layer in front of the common ones; they stay as they are.
        compensate: whether to aim at the weights that make most of the integer inputs instead of the float ones.

    Returns:
        Whether the layer is of a kind whose weights can be written.
    """
    kernel = layer.weights
    one_group = layer.depthwise or kernel.shape[-1] == layer.input.shape[-1] or len(kernel.shape) == 2
    symmetric = kernel.quantization.dtype == "int8" and not any(kernel.quantization.zero_point)
    if not (one_group and symmetric and editor.owns_data(kernel.index) and _one_to_one(layer)):
        return False
    scale = _channel_scales(layer)[extra:]
    moments = Moments.of(_rows(reference, expected), _rows(layer, seen))
    weights = _real_rows(reference)
    target = compensated_weights(weights, moments) if compensate else weights
    rounded = round_weights(target, scale.astype(np.float32), moments, *_INT8_WEIGHTS)
    assert kernel.data is not None
    rows = layer.rows(kernel.data).copy()
    rows[extra:] = rounded
    editor.set_data(kernel.index, layer.unrows(rows).astype(np.int8))
    return True


def correct_scale(
    editor: GraphEditor, layer: Layer, reference: Layer, seen: Inputs, expected: Inputs, extra: int
) -> bool:
    """Scale an integer layer's weights by one factor, so that its outputs follow the float layer's with slope 1.

    Whatever clips or smooths an activation takes some of its variance away, and what every layer loses multiplies:
    MobileNetV2's 53 layers lose a tenth of the logits' spread. One factor a layer, as its many samples tell it far
    better than each channel's few. Takes the weights as they are now; arguments as those of :func:`gptq_round`.

    Returns:
        Whether the layer has scales of its own and a slope that makes sense.
    """
    if not (editor.owns_data(layer.weights.index) and (layer.bias is None or _writable(editor, layer.bias))):
        return False
    wanted = reference.respond(_real_rows(reference), expected.patches)
    given = layer.respond(_real_rows(layer), seen.patches)[:, extra:]
    wanted, given = (outputs - outputs.mean(axis=0) for outputs in (wanted, given))
    power, common = float(np.vdot(wanted, wanted)), float(np.vdot(wanted, given))
    if not _LEAST_SLOPE * power < common < power / _LEAST_SLOPE:
        return False
    scale = _channel_scales(layer).copy()
    scale[extra:] *= power / common
    if len(layer.weights.quantization.scale) == 1:
        scale = scale[-1:]  # of a background class too, if there is one
    editor.set_quantization(layer.weights.index, scale)
    return True


def correct_bias(
    editor: GraphEditor, layer: Layer, reference: Layer, seen: Inputs, expected: Inputs, extra: int
) -> bool:
    """Write the bias that gives an integer layer the float layer's mean output, channel by channel.

    Takes the weights as they are now (Nagel et al. 2019, Data-Free Quantization, arXiv 1906.04721, section 4.2);
    arguments as those of :func:`gptq_round`.

    Returns:
        Whether the layer has a bias of its own to write.
    """
    bias = layer.bias
    if bias is None or not _writable(editor, bias):
        return False
    wanted = reference.respond(reference.rows(reference.weights.dequantize()), expected.mean[np.newaxis])[0]
    if reference.bias is not None:
        wanted = wanted + reference.bias.dequantize().ravel()
    given = layer.respond(layer.rows(layer.weights.dequantize()), seen.mean[np.newaxis])[0]
    scale = layer.input.quantization.scale[0] * np.asarray(layer.weights.quantization.scale)
    corrected = bias.dequantize().ravel().copy()
    corrected[extra:] = wanted - given[extra:]
    limits = np.iinfo(np.int32)
    steps = np.clip(np.rint(corrected / scale), limits.min, limits.max)
    editor.set_data(bias.index, steps.astype(np.int32).reshape(bias.shape))
    editor.set_quantization(bias.index, scale)  # the range of the input may be new
    return True


def _writable(editor: GraphEditor, bias: Tensor) -> bool:
    """Whether a bias is its layer's own and integer."""
    return bias.data is not None and bias.data.dtype == np.int32 and editor.owns_data(bias.index)


def _rows(layer: Layer, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Sampled patches as the layer's weights meet them: ([channels,] samples, entries) float32."""
    count, height, width, channels = inputs.patches.shape
    if layer.depthwise:
        return np.ascontiguousarray(inputs.patches.reshape(count, height * width, channels).transpose(2, 0, 1))
    return inputs.patches.reshape(count, height * width * channels)


def _real_rows(layer: Layer) -> npt.NDArray[np.float32]:
    """A layer's weights as they are now: (output channels, patch entries) float32."""
    return layer.rows(layer.weights.dequantize()).astype(np.float32)


def _one_to_one(layer: Layer) -> bool:
    """Whether a depthwise layer has one output channel for each of its input; of other layers, True."""
    return not layer.depthwise or layer.weights.shape[-1] == layer.input.shape[-1]


def _channel_scales(layer: Layer) -> npt.NDArray[np.float64]:
    """Scale of the weights of each output channel."""
    scale = np.asarray(layer.weights.quantization.scale, np.float64)
    return np.broadcast_to(scale, (layer.output.shape[-1],))
