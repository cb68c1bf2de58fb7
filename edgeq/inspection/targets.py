"""Check which parts of a model a target does not support, by tables with a stated source or by the target's tool."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

from edgeq.errors import InputError
from edgeq.graphs.pairing import WEIGHTED
from edgeq.inspection import edgetpu, vela
from edgeq.inspection.edgetpu import Complaint
from edgeq.tflite.graph import Graph

__all__ = ["TARGETS", "Obstacle", "TargetReport", "check_target", "require_target"]

_RUNTIMES = ("tflite-runtime", "ai-edge-litert")
_TFLM = "tflm"
_MEASURED_BY = "scripts/measure-operators"

_Check = Callable[[Graph], Iterator[Complaint]]


@dataclass(frozen=True)
class Obstacle:
    """Something in a model that a target does not support.

    Attributes:
        operator: kind of the operators concerned, such as ``CONV_2D``; empty for the whole model.
        count: number of operators concerned.
        reason: why the target does not support them; a sentence without its full stop.
    """

    operator: str
    count: int
    reason: str


@dataclass(frozen=True)
class TargetReport:
    """Whether a model runs on a target.

    Attributes:
        target: the target as the user named it.
        source: where the information about the target comes from.
        consequence: what happens on the target to a model with obstacles.
        obstacles: what the target does not support; empty if nothing is known to be unsupported.
    """

    target: str
    source: str
    consequence: str
    obstacles: tuple[Obstacle, ...]


def check_target(graph: Graph, target: str) -> TargetReport:
    """Find the parts of a model that a target does not support.

    Args:
        graph: the model, see :func:`edgeq.tflite.graph.read_graph`.
        target: a name in `TARGETS`; for a runtime, optionally with a version, as in ``tflite-runtime==2.14``.

    Raises:
        InputError: the target or its version is unknown.
        RuntimeUnavailableError: the target's own tool is not installed.
        ModelError: the target's own tool fails on the model.
    """
    name = require_target(target)
    check: _Check
    if name in _RUNTIMES:
        source, check = f"measured on {_table(name)['package']} by {_MEASURED_BY}", partial(_check_runtime, name)
    elif name == _TFLM:
        source, check = f"kernels: measured on {_table(name)['package']} by {_MEASURED_BY}", _check_tflm
    elif name == "edgetpu":
        source, check = edgetpu.SOURCE, edgetpu.complaints
    else:
        source, check = vela.source(), vela.complaints
    counts = Counter(check(graph))
    obstacles = tuple(Obstacle(operator, count, reason) for (operator, reason), count in counts.items())
    return TargetReport(target, source, TARGETS[name], obstacles)


def require_target(target: str) -> str:
    """Check that a model can be checked against a target, and return the target's name without the version.

    Raises:
        InputError: the target or its version is unknown.
        RuntimeUnavailableError: the target's own tool is not installed.
    """
    name, _, version = target.partition("==")
    if name not in TARGETS or (version and name not in _RUNTIMES):
        raise InputError(f"target {target!r}: must be one of {', '.join(TARGETS)}; runtimes as NAME or NAME==VERSION")
    if name in _RUNTIMES:
        measured = _table(name)["package"].partition(" ")[2]
        if version and not f"{measured}.".startswith(f"{version.rstrip('.*')}."):
            raise InputError(f"target {target}: known is {measured} (measured by {_MEASURED_BY})")
    if name == "ethos-u":
        vela.source()
    return name


TARGETS = {
    "tflite-runtime": "the runtime does not load the file",
    "ai-edge-litert": "the runtime does not load the file",
    "edgetpu": "the compiler assigns that operator and all later ones to the CPU, or rejects the file",
    "ethos-u": "these operators run on the CPU instead, slowly",
    _TFLM: "the interpreter cannot allocate the tensors",
}
"""The consequence of obstacles on each target, by the target's name."""


@cache
def _table(runtime: str) -> dict[str, Any]:
    """Return what ``scripts/measure-operators`` recorded for a runtime: its package, and its operators' versions."""
    tables: dict[str, dict[str, Any]] = json.loads(Path(__file__).with_name("operators.json").read_text("utf-8"))
    return tables[runtime]


def _check_runtime(runtime: str, graph: Graph) -> Iterator[Complaint]:
    table = _table(runtime)
    package = table["package"]
    for operator in graph.operators:
        newest = table["operators"].get(operator.name)
        if newest is None:
            yield operator.name, f"{package} does not know this operator"
        elif operator.version > newest:
            yield operator.name, f"is of version {operator.version}; {package} knows it up to version {newest}"


def _check_tflm(graph: Graph) -> Iterator[Complaint]:
    """Yield the operators for which TensorFlow Lite for Microcontrollers has no kernel, or none for their types."""
    known = _table(_TFLM)["operators"]
    for operator in graph.operators:
        types = graph.dtypes(operator.inputs)
        if operator.name not in known:
            yield operator.name, "has no kernel there"
        elif "float16" in types:
            yield operator.name, "reads float16, which no kernel takes"
        elif operator.name in WEIGHTED and "float32" in types and "int8" in types:
            yield (
                operator.name,
                "has integer weights but float activations; the target takes integers for both or floats for both",
            )
