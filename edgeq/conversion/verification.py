"""Verify a converted file in the runtime.

The check runs in a worker process for two reasons. Some files make a runtime abort its process, which would end the
conversion. And tflite-runtime does not work in a process that has imported TensorFlow.
"""

from __future__ import annotations

import signal
from collections.abc import Collection
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


def verify(
    path: Path,
    name: str,
    form: Format,
    io: str,
    pixels: npt.NDArray[np.uint8],
    in_float: Collection[str] = (),
) -> None:
    """Load a converted file, check that it is what was requested, and run it on one image.

    Args:
        path: the file, complete with its metadata.
        name: the file's name in error messages.
        form: the requested format.
        io: the requested type of the input and output of an ``int8`` file, one of `IO_TYPES`.
        pixels: the image, (height, width, channels) uint8.
        in_float: names of the outputs of the operators that are in float on purpose.

    Raises:
        ConversionError: the file does not run, or is not what was requested. The message names any operators that are
            not integer.
    """
    arguments = {"path": str(path), "form": form.name, "io": io, "shape": pixels.shape}
    arguments["in_float"] = sorted(in_float)
    try:
        with WorkerProcess("the runtime") as worker:
            worker.ask("call", pixels.tobytes(), function=f"{__name__}:_check", arguments=arguments)
    except EdgeqError as error:
        problem = str(error).replace(str(path), name)
        if isinstance(error, WorkerDiedError) and error.code == -signal.SIGABRT:
            problem += "; often because activations are nearly zero, as in a network without trained weights"
        raise ConversionError(f"{name}: the converted file fails its verification: {problem}") from None


def _check(content: bytes, path: str, form: str, io: str, shape: tuple[int, ...], in_float: list[str]) -> None:
    """Raise a `ConversionError` if a file is not what was requested; runs in the worker process."""
    model = Model(path)
    if form == "int8":
        _check_integer(read_graph(path), io, in_float)
        _check_io(model, io)
    pixels = np.frombuffer(content, np.uint8).reshape(shape)
    output = model.invoke(model.tensor(pixels))
    if not np.all(np.isfinite(model.dequantize(output))):
        raise ConversionError("it outputs NaN or infinity; check the network's weights")


def _check_integer(graph: Graph, io: str, in_float: Collection[str]) -> None:
    """Check that all operators are integer.

    QUANTIZE and DEQUANTIZE may be float at the ends of a file with float input and output, and around operators that
    are in float on purpose.
    """
    ends = (graph.operators[0], graph.operators[-1]) if io == "float32" else ()
    culprits = set()
    for operator in graph.operators:
        if operator.name in _BOUNDARY_OPERATORS and (operator in ends or in_float):
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
