"""Checking a converted file in the runtime before it is called done.

The check runs in a worker process. A runtime answers some files by aborting its process, and tflite-runtime does not
work beside TensorFlow: neither must get in the converter's way.
"""

from __future__ import annotations

import signal
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.conversion.formats import Format
from edgeq.errors import ConversionError, EdgeqError, WorkerDiedError
from edgeq.execution.process import WorkerProcess
from edgeq.runtime import Model
from edgeq.tflite.graph import Graph, read_graph

__all__ = ["verify"]

_INTEGER_TYPES = ("int8", "uint8", "int16", "int32", "int64", "bool")
_BOUNDARY_OPERATORS = ("QUANTIZE", "DEQUANTIZE")


def verify(path: Path, name: str, form: Format, io: str, pixels: npt.NDArray[np.uint8]) -> None:
    """Open a converted file, look at it and run it.

    Args:
        path: of the file, complete with its metadata.
        name: what to call it in messages.
        form: what it is meant to be.
        io: type of input and output that an ``int8`` file was asked for.
        pixels: an image to run, (height, width, channels) uint8.

    Raises:
        ConversionError: it does not run, or is not what was requested; the message names the operators that
            are not integer.
    """
    arguments = {"path": str(path), "form": form.name, "io": io, "shape": pixels.shape}
    try:
        with WorkerProcess("the runtime") as worker:
            worker.ask("call", pixels.tobytes(), function=f"{__name__}:_check", arguments=arguments)
    except EdgeqError as error:
        problem = str(error).replace(str(path), name)
        if isinstance(error, WorkerDiedError) and error.code == -signal.SIGABRT:
            problem += "; often activations that are all but zero, as in a network without trained weights"
        raise ConversionError(f"{name}: the converted file fails its verification: {problem}") from None


def _check(content: bytes, path: str, form: str, io: str, shape: tuple[int, ...]) -> None:
    """Raise a `ConversionError` that says what is wrong with a file, if anything is; runs in the worker process."""
    model = Model(path)
    if form == "int8":
        _check_integer(read_graph(path), io)
        _check_io(model, io)
    pixels = np.frombuffer(content, np.uint8).reshape(shape)
    output = model.invoke(model.tensor(pixels))
    if not np.all(np.isfinite(model.dequantize(output))):
        raise ConversionError("it gives NaN or infinity; check the network's weights")


def _check_integer(graph: Graph, io: str) -> None:
    """Every tensor of every operator is integer; with float I/O, but for the conversions at the two ends."""
    ends = (graph.operators[0], graph.operators[-1]) if io == "float32" else ()
    culprits = set()
    for operator in graph.operators:
        if operator in ends and operator.name in _BOUNDARY_OPERATORS:
            continue
        floats = graph.dtypes((*operator.inputs, *operator.outputs)).difference(_INTEGER_TYPES)
        if floats:
            culprits.add(f"{operator.name} ({', '.join(sorted(floats))})")
    if culprits:
        raise ConversionError(f"it is not full-integer, these operators stayed in float: {', '.join(sorted(culprits))}")


def _check_io(model: Model, io: str) -> None:
    """Input and output have the type asked for and a scale that makes sense."""
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
