"""Correct one integer layer so that its outputs match the float layer's in slope and mean.

There are three corrections, none of which costs time at inference:

1. Rounding: GPTQ rounds the weights (:mod:`edgeq.refinement.rounding`).
2. Scale correction: one factor on the weights' scales corrects the slope of the outputs.
3. Bias correction: the bias corrects the mean of the outputs.

Before its activation function a layer is linear, so slope and mean of its outputs follow from its input patches.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.graphs import pair_graphs
from edgeq.graphs.pairing import WEIGHTED
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Inputs
from edgeq.refinement.rounding import Feedback, Moments, compensated_weights, round_weights
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph, Tensor
from edgeq.threads import run_both

__all__ = ["correct_bias", "correct_scale", "gptq_round", "make_room_for_bias", "rescale_biases", "restore_biases"]

_LEAST_SLOPE = 0.5  # quantization does not halve a layer's signal: below this slope, something else is wrong
_LARGEST_BIAS = 1 << 29  # in steps; leaves a factor of 4 below int32's limit for sums and corrections
_MOST_ENTRIES_TOGETHER = 2400  # of larger layers, one matrix takes 100 MB or more in the working steps
_INT8_WEIGHTS = (-127, 127)  # TFLite's quantization specification excludes -128


def make_room_for_bias(editor: GraphEditor, layer: Layer, reference: Layer, extra: int) -> None:
    """Raise the weight scale of each output channel whose bias does not fit into int32.

    A bias is stored in steps of the input's scale times the weights' scale. In a channel whose weights are tiny and
    whose bias is large, it can exceed int32; ai-edge-quantizer then clips it. TensorFlow's converter raises such a
    channel's weight scale instead. The channel's weights are rounded to the nearest step of the new scale.

    For the arguments, see :func:`gptq_round`.
    """
    bias, kernel = layer.bias, layer.weights
    if bias is None or reference.bias is None or not (_writable(editor, bias) and editor.owns_data(kernel.index)):
        return
    scale = _channel_scales(layer).copy()
    needed = np.abs(reference.bias.dequantize().ravel()) / (layer.input.quantization.scale[0] * _LARGEST_BIAS)
    narrow = np.flatnonzero(scale[extra:] < needed) + extra
    if not len(narrow) or len(kernel.quantization.scale) == 1:
        return
    scale[narrow] = needed[narrow - extra]
    assert kernel.data is not None
    rows = layer.rows(kernel.data).copy()
    rows[narrow] = np.clip(np.rint(_real_rows(reference)[narrow - extra] / scale[narrow, None]), *_INT8_WEIGHTS)
    editor.set_data(kernel.index, layer.unrows(rows).astype(kernel.data.dtype))
    editor.set_quantization(kernel.index, scale)


def restore_biases(reference: Graph, content: bytes) -> bytes:
    """Round the float model's biases again in an INT8 model whose quantizer may have clipped them.

    Args:
        reference: the float model.
        content: the INT8 model that was made from it.

    Returns:
        The INT8 model with the biases and, where these need room, with other weight scales; unchanged if its operators
            do not correspond to the float model's.
    """
    try:
        pair = pair_graphs(reference, Graph(content, reference.path))
    except InputError:
        return content
    editor = GraphEditor(pair.candidate)
    for match in pair.operators:
        if match.candidate.name not in WEIGHTED or pair.candidate.dtypes(match.candidate.inputs[1:2]) != {"int8"}:
            continue
        layer, counterpart = Layer(pair.candidate, match.candidate), Layer(pair.reference, match.reference)
        if layer.bias is None or counterpart.bias is None or not _writable(editor, layer.bias):
            continue
        make_room_for_bias(editor, layer, counterpart, match.extra_channels)
        _write_bias(editor, layer, counterpart.bias.dequantize().ravel())
    return editor.content


def rescale_biases(editor: GraphEditor, before: Graph) -> None:
    """Write the biases of a changed INT8 model again, so that they fit the ranges of their layers' inputs.

    Args:
        editor: editor of the changed model.
        before: the model before its ranges were changed.
    """
    for operator in editor.graph.operators:
        layer, original = Layer(editor.graph, operator), Layer(before, operator)
        if operator.name in WEIGHTED and original.bias is not None and _writable(editor, original.bias):
            _write_bias(editor, layer, original.bias.dequantize().ravel())


def _write_bias(editor: GraphEditor, layer: Layer, bias: npt.NDArray[np.float64]) -> None:
    """Round a bias to steps of the input's scale times the weights' scale, and write it."""
    assert layer.bias is not None
    scale = layer.input.quantization.scale[0] * np.asarray(layer.weights.quantization.scale)
    limits = np.iinfo(np.int32)
    steps = np.clip(np.rint(bias / scale), limits.min, limits.max)
    editor.set_data(layer.bias.index, steps.astype(np.int32).reshape(layer.bias.shape))
    editor.set_quantization(layer.bias.index, scale)


def gptq_round(
    editor: GraphEditor,
    layer: Layer,
    reference: Layer,
    seen: Inputs,
    expected: Inputs,
    extra: int,
    compensate: bool = False,
    threads: int = 1,
) -> bool:
    """Round the float layer's weights with GPTQ, which minimizes the output error on the integer layer's inputs.

    Args:
        editor: editor of the integer network.
        layer: a layer of the integer network.
        reference: its counterpart in the float network.
        seen: the integer layer's inputs.
        expected: the float layer's inputs, at the same positions.
        extra: number of leading output channels that only the integer layer has (a background class). They stay as
            they are.
        compensate: if True, round weights that compensate for the errors of the integer inputs (see
            :func:`edgeq.refinement.rounding.compensated_weights`); if False, the float weights.
        threads: number of threads to use.

    Returns:
        Whether the weights were written. They are written only if they are symmetric int8, belong to a convolution
            without groups, and are not shared with another layer.
    """
    kernel = layer.weights
    one_group = layer.depthwise or kernel.shape[-1] == layer.channels
    symmetric = kernel.quantization.dtype == "int8" and not any(kernel.quantization.zero_point)
    if not (one_group and symmetric and editor.owns_data(kernel.index) and _one_to_one(layer)):
        return False
    scale = _channel_scales(layer)[extra:]
    moments = Moments.of(_rows(reference, expected), _rows(layer, seen), threads)
    weights = _real_rows(reference)
    target, feedback = run_both(
        lambda: compensated_weights(weights, moments) if compensate else weights,
        lambda: Feedback.of(moments),
        threads if weights.shape[1] <= _MOST_ENTRIES_TOGETHER else 1,
    )
    rounded = round_weights(target, scale.astype(np.float32), feedback, *_INT8_WEIGHTS)
    assert kernel.data is not None
    rows = layer.rows(kernel.data).copy()
    rows[extra:] = rounded
    editor.set_data(kernel.index, layer.unrows(rows).astype(np.int8))
    return True


def correct_scale(
    editor: GraphEditor,
    layer: Layer,
    reference: Layer,
    seen: Inputs,
    expected: Inputs,
    extra: int,
    threads: int = 1,
) -> bool:
    """Multiply an integer layer's weight scales by one factor that gives its outputs slope 1 over the float layer's.

    Clipping and rounding reduce the variance of activations, and the losses of all layers multiply: MobileNetV2's 53
    layers lose a tenth of the logits' standard deviation. There is one factor per layer, not per channel, because the
    samples of all channels together determine it far better.

    Uses the integer layer's present weights. For the arguments, see :func:`gptq_round`.

    Returns:
        Whether the scales were written. They are written only if they are not shared with another layer, and the slope
            is plausible.
    """
    if not (editor.owns_data(layer.weights.index) and (layer.bias is None or _writable(editor, layer.bias))):
        return False

    def outputs(of: Layer, inputs: Inputs, first: int) -> npt.NDArray[np.float32]:
        found = of.respond(_real_rows(of), inputs.patches)[:, first:]
        return np.asarray(found - found.mean(axis=0))

    wanted, given = run_both(lambda: outputs(reference, expected, 0), lambda: outputs(layer, seen, extra), threads)
    power, common = float(np.vdot(wanted, wanted)), float(np.vdot(wanted, given))
    if not _LEAST_SLOPE * power < common < power / _LEAST_SLOPE:
        return False
    scale = _channel_scales(layer).copy()
    scale[extra:] *= power / common
    if len(layer.weights.quantization.scale) == 1:
        scale = scale[-1:]  # per-tensor: the factor then also scales a background class
    editor.set_quantization(layer.weights.index, scale)
    return True


def correct_bias(
    editor: GraphEditor, layer: Layer, reference: Layer, seen: Inputs, expected: Inputs, extra: int
) -> bool:
    """Write the bias that gives an integer layer the float layer's mean output in each channel.

    This is bias correction (Nagel et al. 2019, Data-Free Quantization, arXiv 1906.04721, section 4.2). Uses the integer
    layer's present weights. For the arguments, see :func:`gptq_round`.

    Returns:
        Whether the bias was written. It is written only if it is constant and not shared with another layer.
    """
    bias = layer.bias
    if bias is None or not _writable(editor, bias):
        return False
    wanted = reference.respond(reference.rows(reference.weights.dequantize()), expected.mean[np.newaxis])[0]
    if reference.bias is not None:
        wanted = wanted + reference.bias.dequantize().ravel()
    given = layer.respond(layer.rows(layer.weights.dequantize()), seen.mean[np.newaxis])[0]
    corrected = bias.dequantize().ravel().copy()
    corrected[extra:] = wanted - given[extra:]
    _write_bias(editor, layer, corrected)  # with its scale: the range of the input may have changed
    return True


def _writable(editor: GraphEditor, bias: Tensor) -> bool:
    """Return whether a bias is constant, int32 and not shared with another layer."""
    return bias.data is not None and bias.data.dtype == np.int32 and editor.owns_data(bias.index)


def _rows(layer: Layer, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Return the sampled patches in the order of the layer's weights: ([channels,] samples, entries) float32."""
    count, height, width, channels = inputs.patches.shape
    if layer.depthwise:
        return np.ascontiguousarray(inputs.patches.reshape(count, height * width, channels).transpose(2, 0, 1))
    return inputs.patches.reshape(count, height * width * channels)


def _real_rows(layer: Layer) -> npt.NDArray[np.float32]:
    """Return a layer's present weights as real numbers: (output channels, patch entries) float32."""
    return layer.rows(layer.weights.dequantize()).astype(np.float32)


def _one_to_one(layer: Layer) -> bool:
    """Return whether a layer is not depthwise, or has one output channel per input channel."""
    return not layer.depthwise or layer.weights.shape[-1] == layer.input.shape[-1]


def _channel_scales(layer: Layer) -> npt.NDArray[np.float64]:
    """Return the scale of each output channel's weights: (output channels,) float64."""
    scale = np.asarray(layer.weights.quantization.scale, np.float64)
    return np.broadcast_to(scale, (layer.output.shape[-1],))
