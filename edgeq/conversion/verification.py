"""Checking a converted file in the runtime before it is called done."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from edgeq.calibration import CalibrationSet
from edgeq.conversion.formats import Format
from edgeq.errors import ConversionError, EdgeqError
from edgeq.runtime import Model
from edgeq.runtime.operators import Operator, list_operators

__all__ = ["verify"]

_INTEGER_TYPES = ("int8", "uint8", "int16", "int32", "int64", "bool")
_BOUNDARY_OPERATORS = ("QUANTIZE", "DEQUANTIZE")


def verify(path: Path, name: str, form: Format, io: str, calibration: CalibrationSet | None) -> None:
    """Open a converted file, look at it and run it.

    Args:
        path: of the file, complete with its metadata.
        name: what to call it in messages.
        form: what it is meant to be.
        io: types of input and output an ``int8`` file was asked for.
        calibration: images to run; a grey picture where there are none.

    Raises:
        ConversionError: it does not run, or is not what was asked for; the message names the operators that
            are not integer.
    """
    try:
        model = Model(path)
        if form.name == "int8":
            _check_integer(list_operators(path), io, name)
            _check_io(model, io, name)
        spec = model.preprocessing
        grey = np.full((spec.height, spec.width, len(spec.channels)), 128, np.uint8)
        output = model.invoke(model.tensor(calibration.pixels[0] if calibration else grey))
    except ConversionError:
        raise
    except EdgeqError as error:
        raise ConversionError(f"{name}: the converted file fails in the runtime: {error}") from None
    if not np.all(np.isfinite(model.real(output))):
        raise ConversionError(f"{name}: the converted file gives NaN or infinity; check the network's weights")


def _check_integer(operators: list[Operator], io: str, name: str) -> None:
    """Every tensor of every operator is integer; with float I/O, but for the conversions at the two ends."""
    ends = {id(operators[0]), id(operators[-1])} if io == "float32" else set()
    culprits = []
    for operator in operators:
        if id(operator) in ends and operator.name in _BOUNDARY_OPERATORS:
            continue
        floats = [t for t in operator.input_types + operator.output_types if t not in _INTEGER_TYPES]
        if floats:
            culprits.append(f"{operator.name} ({', '.join(sorted(set(floats)))})")
    if culprits:
        listed = ", ".join(sorted(set(culprits)))
        raise ConversionError(f"{name}: is not full-integer; these operators stayed in float: {listed}")


def _check_io(model: Model, io: str, name: str) -> None:
    """Input and output have the type asked for and a scale that makes sense."""
    for what, spec in (("input", model.input), ("output", model.output)):
        if spec.quantization.dtype != io:
            raise ConversionError(f"{name}: its {what} is {spec.quantization.dtype}, but {io} was asked for")
    if io == "float32":
        return
    if not (model.input.quantization.is_quantized and model.output.quantization.is_quantized):
        raise ConversionError(f"{name}: its input or output has no scale")
    low, high = model.input.quantization.real_range
    want_low, want_high = model.preprocessing.real_range
    slack = 0.02 * (want_high - want_low)
    if max(abs(low - want_low), abs(high - want_high)) > slack:
        raise ConversionError(
            f"{name}: its input covers {low:.4g} to {high:.4g}, but images span {want_low:.4g} to {want_high:.4g}"
        )
    low, high = model.output.quantization.real_range
    if not high > low:
        raise ConversionError(f"{name}: its output covers only {low:.4g} to {high:.4g}")
