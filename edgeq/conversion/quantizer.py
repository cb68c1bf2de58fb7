"""Quantize a float .tflite graph with known ranges of its activations, by a library's quantizer.

There are two, because each covers operators that the other does not: TensorFlow's quantizer for graphs from its own
converter, and ai-edge-quantizer, which needs no TensorFlow, for graphs from elsewhere. Both get the ranges that
:func:`edgeq.refinement.observe` recorded, instead of calibrating by themselves. TensorFlow's calibrator is slower, and
reads the range of an ADD's input after the ADD has overwritten it; that of ai-edge-quantizer smooths the ranges.
"""

from __future__ import annotations

import copy
import importlib.util
import re
from collections.abc import Collection, Mapping
from typing import Any

import numpy as np

from edgeq.conversion.uint8_io import with_uint8_io
from edgeq.errors import ConversionError, EdgeqError, one_line
from edgeq.quiet import quiet
from edgeq.refinement import restore_biases
from edgeq.tflite.extraction import extract, signature_names
from edgeq.tflite.graph import Graph, load_schema
from edgeq.tflite.packing import pack_model

__all__ = ["Ranges", "quantize_with_tensorflow", "quantized_file", "require_ai_edge_quantizer"]

Ranges = Mapping[int, tuple[float, float]]
"""Smallest and largest value of each activation, by the tensor's index."""


def quantize_with_tensorflow(graph: Graph, ranges: Ranges, io: str) -> bytes:
    """Quantize a graph of TensorFlow's converter to full-integer INT8.

    This is what the converter does after its calibration. The function is not part of TensorFlow's public interface,
    which would calibrate again.

    Args:
        graph: the float graph.
        ranges: the range of each activation.
        io: type of the input and output, one of `IO_TYPES`.
    """
    import tensorflow as tf
    from tensorflow.lite.python.convert import mlir_quantize

    schema = load_schema()
    model = copy.deepcopy(graph.model)
    for index, (low, high) in ranges.items():
        parameters = schema.QuantizationParametersT()
        parameters.min, parameters.max = np.array([low], np.float32), np.array([high], np.float32)
        model.subgraphs[0].tensors[index].quantization = parameters
    kind = tf.dtypes.as_dtype(io)
    return bytes(mlir_quantize(pack_model(model, len(graph.content)), input_data_type=kind, output_data_type=kind))


def require_ai_edge_quantizer() -> None:
    """Raise an EdgeqError if ai-edge-quantizer is not installed."""
    if importlib.util.find_spec("ai_edge_quantizer") is None:
        raise EdgeqError("this needs ai-edge-quantizer, which is not installed: pip install 'edgeq[quantize]'")


def quantize_with_ai_edge(
    graph: Graph, form: str, ranges: Ranges, io: str = "int8", float_operators: Collection[int] = ()
) -> bytes:
    """Quantize any float graph.

    Args:
        graph: the float graph, with one signature.
        form: ``int8``, ``int16x8``, ``fp16`` or ``dynamic``.
        ranges: the range of each activation, for ``int8`` and ``int16x8``.
        io: type of the inputs and outputs of an ``int8`` file, one of `IO_TYPES`.
        float_operators: indices of operators to leave in float.

    Raises:
        ConversionError: ai-edge-quantizer does not support the graph.
    """
    from ai_edge_quantizer import quantizer
    from ai_edge_quantizer.qtyping import TFLOperationName as Name

    tool, algorithms = quantizer.Quantizer(bytearray(graph.content)), quantizer.AlgorithmName
    calibrated = form in ("int8", "int16x8")
    if calibrated:
        tool.add_static_config(".*", Name.ALL_SUPPORTED, 8 if form == "int8" else 16, 8)
    elif form == "fp16":
        tool.add_weight_only_config(".*", Name.ALL_SUPPORTED, 16, algorithm_key=algorithms.FLOAT_CASTING)
    else:
        tool.add_dynamic_config(".*", Name.ALL_SUPPORTED, 8)
    if form == "int16x8" or io == "float32":  # TensorFlow's int16x8 files have a float32 input and output as well
        for end in (Name.INPUT, Name.OUTPUT):
            tool.update_quantization_recipe(".*", end, algorithm_key=algorithms.NO_QUANTIZE)
    for index in float_operators:
        names = ";".join(graph.tensors[i].name for i in graph.operators[index].outputs)
        tool.update_quantization_recipe(
            f"^{re.escape(names)};?$", Name.ALL_SUPPORTED, algorithm_key=algorithms.NO_QUANTIZE
        )
    try:
        result = tool.quantize(
            _as_statistics(graph, ranges) if calibrated else None,
            enable_progress_bar=False,
            enable_progress_report=False,
        )
    except (ValueError, RuntimeError, KeyError) as error:
        raise ConversionError(f"{graph.path}: cannot be quantized to {form}: {one_line(error)}") from None
    assert result.quantized_model is not None
    return bytes(result.quantized_model)


def quantized_file(
    graph: Graph, form: str, ranges: Ranges, io: str = "int8", float_operators: Collection[int] = ()
) -> bytes:
    """Quantize a float graph with ai-edge-quantizer, and correct what it leaves to do.

    Constants are copied into the flatbuffer, biases that it clipped are restored, and uint8 inputs and outputs, which
    it does not offer, are added.

    For the arguments, see :func:`quantize_with_ai_edge`.
    """
    with quiet():  # it shows a progress bar of its own
        content = quantize_with_ai_edge(graph, form, ranges, "int8" if io == "uint8" else io, float_operators)
    quantized = Graph(content, graph.path)
    content = extract(quantized, quantized.operators, *signature_names(quantized))
    if form == "int8":
        content = restore_biases(graph, content)
        if io == "uint8":
            content = with_uint8_io(Graph(content, graph.path))
    return content


def _as_statistics(graph: Graph, ranges: Ranges) -> dict[str, dict[str, Any]]:
    """Return ranges in ai-edge-quantizer's form: by tensor name, arrays with as many dimensions as the tensor."""
    statistics = {}
    for index, (low, high) in ranges.items():
        shape = (1,) * len(graph.tensors[index].shape)
        statistics[graph.tensors[index].name] = {
            "min": np.full(shape, low, np.float32),
            "max": np.full(shape, high, np.float32),
        }
    return statistics
