"""Correct one integer layer so that its outputs match the float layer's in slope and mean.

There are three corrections, each free at run time: GPTQ rounds the weights (`edgeq.refinement.rounding`), one factor on
the weights' scales corrects the slope of the outputs, and the bias corrects their mean. Before its activation a layer
is linear, so slope and mean follow from its input patches.
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

_LEAST_SLOPE = 0.5  # rounding alone does not halve a layer's signal: below, something else is wrong
_INT8_WEIGHTS = (-127, 127)  # TFLite's quantization specification excludes -128


def gptq_round(
    editor: GraphEditor,
    layer: Layer,
    reference: Layer,
    seen: Inputs,
    expected: Inputs,
    extra: int,
    compensate: bool = False,
) -> bool:
    """Round the float layer's weights with GPTQ, so that the output error on the integer layer's inputs is least.

    Args:
        editor: of the integer network.
        layer: of the integer network.
        reference: its counterpart in the float network.
        seen: the integer layer's inputs.
        expected: the float layer's inputs, at the same positions.
        extra: output channels of the integer layer in front of the common ones; they stay as they are.
        compensate: whether to round the weights that compensate for errors of the integer inputs, see
            :func:`edgeq.refinement.rounding.compensated_weights`, instead of the float weights.

    Returns:
        Whether the weights could be written: they are symmetric int8, in one group, and this layer's own.
    """
    kernel = layer.weights
    one_group = layer.depthwise or kernel.shape[-1] == layer.channels
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

    Clipping and rounding of activations reduce their variance, and the losses of all layers multiply: MobileNetV2's
    53 layers lose a tenth of the logits' standard deviation. There is one factor per layer, because all samples of a
    layer determine it far better than the few of one channel. Uses the weights as they are now; arguments as those of
    :func:`gptq_round`.

    Returns:
        Whether the scales could be written: they are this layer's own, and the slope is plausible.
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
    """Write the bias that gives an integer layer the float layer's mean output in each channel.

    This is bias correction (Nagel et al. 2019, Data-Free Quantization, arXiv 1906.04721, section 4.2). Uses the
    weights as they are now; arguments as those of :func:`gptq_round`.

    Returns:
        Whether the bias could be written: the layer has one of its own.
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
    editor.set_quantization(bias.index, scale)  # the range of the input may have changed
    return True


def _writable(editor: GraphEditor, bias: Tensor) -> bool:
    """Whether a bias is int32 and its layer's own."""
    return bias.data is not None and bias.data.dtype == np.int32 and editor.owns_data(bias.index)


def _rows(layer: Layer, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Sampled patches in the order of the layer's weights: ([channels,] samples, entries) float32."""
    count, height, width, channels = inputs.patches.shape
    if layer.depthwise:
        return np.ascontiguousarray(inputs.patches.reshape(count, height * width, channels).transpose(2, 0, 1))
    return inputs.patches.reshape(count, height * width * channels)


def _real_rows(layer: Layer) -> npt.NDArray[np.float32]:
    """A layer's weights as they are now: (output channels, patch entries) float32."""
    return layer.rows(layer.weights.dequantize()).astype(np.float32)


def _one_to_one(layer: Layer) -> bool:
    """Whether a depthwise layer has one output channel per input channel; True for other layers."""
    return not layer.depthwise or layer.weights.shape[-1] == layer.input.shape[-1]


def _channel_scales(layer: Layer) -> npt.NDArray[np.float64]:
    """Scale of each output channel's weights: (output channels,)."""
    scale = np.asarray(layer.weights.quantization.scale, np.float64)
    return np.broadcast_to(scale, (layer.output.shape[-1],))
