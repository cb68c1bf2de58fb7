"""What operators a .tflite file consists of."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.runtime.backends import make_interpreter

__all__ = ["Operator", "list_operators", "output_kind"]

_ABSENT = -1  # index of an optional tensor that is not there, such as a missing bias
_TRANSPARENT = ("DEQUANTIZE", "QUANTIZE", "RESHAPE", "SQUEEZE")  # they hand on what they are given


@dataclass(frozen=True)
class Operator:
    """One step of a network.

    Attributes:
        name: as in TFLite's schema, for instance ``CONV_2D``.
        inputs: indices of its input tensors, weights included.
        outputs: indices of its output tensors.
        input_types: NumPy names of the input tensors' types.
        output_types: the same of its output tensors.
    """

    name: str
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    input_types: tuple[str, ...]
    output_types: tuple[str, ...]


def list_operators(path: str | Path, runtime: str | None = None) -> list[Operator]:
    """The operators of a model's main graph, in the order of execution.

    Raises:
        ModelError: the file cannot be loaded.
        RuntimeUnavailableError: no runtime, or not that one.
    """
    return _operators_of(make_interpreter(path, runtime)[1])


def output_kind(interpreter: Any, output: int) -> str:
    """Whether a classifier gives ``probabilities`` or ``logits``: by the operator that computes its output.

    Args:
        interpreter: of any runtime, with tensors allocated.
        output: index of the output tensor.
    """
    operators = _operators_of(interpreter)
    while True:
        producers = [operator for operator in operators if output in operator.outputs]
        if not producers or producers[-1].name not in _TRANSPARENT:
            return "probabilities" if producers and producers[-1].name in ("SOFTMAX", "LOGISTIC") else "logits"
        output = producers[-1].inputs[0]


def _operators_of(interpreter: Any) -> list[Operator]:
    types = {t["index"]: np.dtype(t["dtype"]).name for t in interpreter.get_tensor_details()}
    operators = []
    for details in interpreter._get_ops_details():
        if details["op_name"] == "DELEGATE":  # XNNPACK's, which stands for operators that are listed too
            continue
        inputs, outputs = (
            tuple(int(i) for i in details[key] if i != _ABSENT and i in types) for key in ("inputs", "outputs")
        )
        operators.append(
            Operator(
                details["op_name"],
                inputs,
                outputs,
                tuple(types[i] for i in inputs),
                tuple(types[i] for i in outputs),
            )
        )
    return operators
