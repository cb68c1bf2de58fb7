"""Find out whether a classifier outputs probabilities or logits, using only the standard library."""

from __future__ import annotations

import mmap
import struct
from pathlib import Path

from edgeq.errors import ModelError
from edgeq.tflite import flatbuffer, schema

__all__ = ["read_output_kind"]

# Values of the enumeration BuiltinOperator in schema.fbs.
_PROBABILITIES = {14: "LOGISTIC", 25: "SOFTMAX"}
_TRANSPARENT = {6: "DEQUANTIZE", 22: "RESHAPE", 43: "SQUEEZE", 114: "QUANTIZE"}


def read_output_kind(path: str | Path) -> str:
    """Find out what a model's first output holds, from the operator that computes it.

    SOFTMAX and LOGISTIC compute probabilities, all others logits. Operators that only pass values through, such as
    RESHAPE, are skipped.

    Args:
        path: a .tflite file.

    Returns:
        ``probabilities`` or ``logits``.

    Raises:
        ModelError: the file's tables are damaged.
    """
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            return _kind_of_output(flatbuffer.root(content))
        except (struct.error, IndexError):
            raise ModelError(f"{path}: the file is damaged: its tables are invalid; copy or convert it again") from None


def _kind_of_output(model: flatbuffer.Table) -> str:
    # Newer converters write the operator's number to a new field, and at most 127 to the deprecated one.
    codes = [
        max(code.scalar(schema.OperatorCode.DEPRECATED_BUILTIN, "<b"), code.scalar(schema.OperatorCode.BUILTIN, "<i"))
        for code in model.tables(schema.Model.OPERATOR_CODES)
    ]
    graph = model.tables(schema.Model.SUBGRAPHS)[0]
    output = graph.integers(schema.Subgraph.OUTPUTS)[0]
    for operator in reversed(graph.tables(schema.Subgraph.OPERATORS)):  # stored in the order of execution
        if output not in operator.integers(schema.Operator.OUTPUTS):
            continue
        code = codes[operator.scalar(schema.Operator.CODE_INDEX, "<I")]
        if code not in _TRANSPARENT:
            return "probabilities" if code in _PROBABILITIES else "logits"
        output = operator.integers(schema.Operator.INPUTS)[0]
    return "logits"
