"""Check that a converted file is what was requested, in the process that runs it.

This module is not part of :mod:`edgeq.conversion` because a worker process that imports that package takes twice as
long to start.
"""

from __future__ import annotations

import io as streams
from collections.abc import Collection

import numpy as np

from edgeq.errors import ConversionError
from edgeq.runtime import Model, TensorModel, open_model
from edgeq.tflite.graph import Graph, read_graph

__all__ = ["PIXELS", "check"]

PIXELS = "pixels"
"""Name of the array that is an image, (height, width, channels) uint8."""

_INTEGER_TYPES = ("int8", "uint8", "int16", "int32", "int64", "bool")
_NEVER_QUANTIZED = ("int16", "int32", "int64", "bool")
_BOUNDARY_OPERATORS = ("QUANTIZE", "DEQUANTIZE")


def check(content: bytes, path: str, form: str, io: str, in_float: list[str]) -> None:
    """Raise a `ConversionError` if a file is not what was requested.

    Args:
        content: .npz with one sample: the array `PIXELS`, or one array per input, by name.
        path: the file.
        form: the requested format's name.
        io: the requested type of the input and output of an ``int8`` file.
        in_float: names of the outputs of the operators that are in float on purpose.

    Raises:
        ConversionError: the file is not what was requested.
        ModelError: the runtime does not load the file.
    """
    model = open_model(path, trust=True)  # this is a separate process already
    with np.load(streams.BytesIO(content)) as sample:
        arrays = {name: sample[name] for name in sample.files}
    if form == "int8":
        _check_integer(read_graph(path), io, in_float)
    if isinstance(model, Model):
        if form == "int8":
            _check_io(model, io)
        found = [model.dequantize(model.invoke(model.tensor(arrays[PIXELS])))]
    else:
        if form == "int8":
            _check_ends(model, io)
        found = list(model.answer(arrays).values())
    if not all(np.all(np.isfinite(output)) for output in found):
        raise ConversionError("it outputs NaN or infinity; check the network's weights")


def _check_integer(graph: Graph, io: str, in_float: Collection[str]) -> None:
    """Check that all operators are integer.

    QUANTIZE and DEQUANTIZE may be float at the ends of a file with float input and output, and around operators that
    are in float on purpose.
    """
    ends = {*graph.inputs, *graph.outputs} if io == "float32" else set()
    culprits = set()
    for operator in graph.operators:
        is_end = not ends.isdisjoint((*operator.inputs, *operator.outputs))
        if operator.name in _BOUNDARY_OPERATORS and (is_end or in_float):
            continue
        if graph.tensors[operator.outputs[0]].name in in_float:
            continue
        floats = graph.dtypes((*operator.inputs, *operator.outputs)).difference(_INTEGER_TYPES)
        if floats:
            culprits.add(f"{operator.name} ({', '.join(sorted(floats))})")
    # Where an operator stayed in float, conversions are around it: name only the cause.
    culprits = {name for name in culprits if not name.startswith(_BOUNDARY_OPERATORS)} or culprits
    if culprits:
        raise ConversionError(
            f"it is not full-integer, these operators stayed in float: {', '.join(sorted(culprits))}; accept that with "
            "--keep-float unsupported"
        )


def _check_ends(model: TensorModel, io: str) -> None:
    """Check that inputs and outputs have the requested type, unless they hold integers by nature, and a scale."""
    for what, specs in (("input", model.inputs), ("output", model.outputs)):
        for spec in specs:
            quantization = spec.quantization
            if quantization.dtype != io and quantization.dtype not in _NEVER_QUANTIZED:
                raise ConversionError(f"its {what} {spec.name} is {quantization.dtype}, but {io} was asked for")
            if io == quantization.dtype != "float32" and not quantization.is_quantized:
                raise ConversionError(f"its {what} {spec.name} has no scale")


def _check_io(model: Model, io: str) -> None:
    """Check that input and output have the requested type and a plausible range."""
    for what, spec in (("input", model.input), ("output", model.output)):
        if spec.quantization.dtype != io:
            raise ConversionError(f"its {what} is {spec.quantization.dtype}, but {io} was asked for")
    if io == "float32":
        return
    if not (model.input.quantization.is_quantized and model.output.quantization.is_quantized):
        raise ConversionError("its input or output has no scale")
    low, high = model.input.quantization.real_range
    want_low, want_high = model.preprocessing.real_range
    slack = 0.02 * (want_high - want_low)
    if max(abs(low - want_low), abs(high - want_high)) > slack:
        raise ConversionError(f"its input covers {low:.4g} to {high:.4g}, but images {want_low:.4g} to {want_high:.4g}")
    low, high = model.output.quantization.real_range
    if not high > low:
        raise ConversionError(f"its output covers only {low:.4g} to {high:.4g}")
