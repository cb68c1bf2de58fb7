"""Correcting one integer layer: its weights rounded anew, its bias moved to where the float layer's mean is.

A bias costs nothing at run time, and rounding shifts the mean of what a layer puts out (Nagel et al. 2019,
Data-Free Quantization, arXiv 1906.04721, section 4.2). Before its activation a layer is linear, so that mean
follows from the mean of its input patches.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from edgeq.graphs.editing import GraphEditor
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Inputs
from edgeq.refinement.rounding import Moments, mended_weights, round_weights

__all__ = ["correct_bias", "correct_weights"]

_INT8_WEIGHTS = (-127, 127)  # TFLite's quantization specification leaves out -128


def correct_weights(
    editor: GraphEditor,
    layer: Layer,
    reference: Layer,
    seen: Inputs,
    expected: Inputs,
    extra: int,
    mending: bool = True,
) -> bool:
    """Round an integer layer's weights so that it does to its integer inputs what the float layer does to its own.

    Args:
        editor: of the integer network.
        layer: in it.
        reference: its counterpart in the float network.
        seen: what the integer layer reads.
        expected: what the float layer reads, at the same places.
        extra: output channels of the integer layer in front of the common ones; they stay as they are.
        mending: whether to aim at the weights that make most of the integer inputs, or at the float ones.

    Returns:
        Whether the layer is of a kind whose weights can be written.
    """
    kernel = layer.weights
    one_group = layer.depthwise or kernel.shape[-1] == layer.input.shape[-1] or len(kernel.shape) == 2
    symmetric = kernel.quantization.dtype == "int8" and not any(kernel.quantization.zero_point)
    if not (one_group and symmetric and editor.owns_data(kernel.index) and _one_to_one(layer)):
        return False
    moments = Moments.of(_rows(reference, expected), _rows(layer, seen))
    scale = _channel_scales(layer)[extra:]
    weights = reference.rows(reference.weights.real).astype(np.float32)
    target = mended_weights(weights, moments) if mending else weights
    rounded = round_weights(target, scale.astype(np.float32), moments, *_INT8_WEIGHTS)
    assert kernel.data is not None
    rows = layer.rows(kernel.data).copy()
    rows[extra:] = rounded
    editor.set_data(kernel.index, layer.unrows(rows).astype(np.int8))
    return True


def correct_bias(
    editor: GraphEditor, layer: Layer, reference: Layer, seen: Inputs, expected: Inputs, extra: int
) -> bool:
    """Write the bias that gives an integer layer the float layer's mean output, channel by channel.

    Takes the weights as they are now; arguments as those of :func:`correct_weights`.

    Returns:
        Whether the layer has a bias of its own to write.
    """
    bias = layer.bias
    if bias is None or bias.data is None or bias.data.dtype != np.int32 or not editor.owns_data(bias.index):
        return False
    wanted = reference.respond(reference.rows(reference.weights.real), expected.mean)
    if reference.bias is not None:
        wanted = wanted + reference.bias.real.ravel()
    given = layer.respond(layer.rows(layer.weights.real), seen.mean)
    scale = layer.input.quantization.scale[0] * np.asarray(layer.weights.quantization.scale)
    corrected = bias.real.ravel().copy()
    corrected[extra:] = wanted - given[extra:]
    limits = np.iinfo(np.int32)
    steps = np.clip(np.rint(corrected / scale), limits.min, limits.max)
    editor.set_data(bias.index, steps.astype(np.int32).reshape(bias.shape))
    editor.set_quantization(bias.index, scale)  # the range of the input may be new
    return True


def _rows(layer: Layer, inputs: Inputs) -> npt.NDArray[np.float32]:
    """Sampled patches as the layer's weights meet them: ([channels,] samples, entries) float32."""
    sample = inputs.sample.astype(np.float32)
    images, places, height, width, channels = sample.shape
    if layer.depthwise:
        return np.ascontiguousarray(sample.reshape(images * places, height * width, channels).transpose(2, 0, 1))
    return sample.reshape(images * places, height * width * channels)


def _one_to_one(layer: Layer) -> bool:
    """Whether a depthwise layer has one output channel for each of its input; of other layers, True."""
    return not layer.depthwise or layer.weights.shape[-1] == layer.input.shape[-1]


def _channel_scales(layer: Layer) -> npt.NDArray[np.float64]:
    """Scale of the weights of each output channel."""
    scale = np.asarray(layer.weights.quantization.scale, np.float64)
    return np.broadcast_to(scale, (layer.output.shape[-1],))
