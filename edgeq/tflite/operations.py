"""Check a model's operators: their inputs, outputs and options, and that each reads only what was computed before."""

from __future__ import annotations

import math
import struct

from edgeq.tflite import schema
from edgeq.tflite.flexbuffer import read_numbers
from edgeq.tflite.liveness import peak_bytes
from edgeq.tflite.operators import ARITIES, OPERATORS, OPTIONAL_INPUTS, OPTIONS
from edgeq.tflite.structure import MOST_ELEMENTS, Operation, Part, Problem, Structure, TensorFacts, in_range

__all__ = ["check_operations", "custom_operators", "work_of"]

_CALLS = {  # fields of the options with the index of a subgraph
    "CALL": (0,),
    "IF": (0, 1),
    "WHILE": (0, 1),
    "CALL_ONCE": (0,),
}
_CALLS_2 = {6: (1,), 7: (6,), 13: (5,), 14: (2,), 15: (0, 1), 21: (1,)}  # the same, by type in BuiltinOptions2
_POSITIVE = (
    "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "CONV_3D", "CONV_3D_TRANSPOSE", "FULLY_CONNECTED",
    "AVERAGE_POOL_2D", "MAX_POOL_2D", "L2_POOL_2D", "HASHTABLE_LOOKUP", "EMBEDDING_LOOKUP", "EMBEDDING_LOOKUP_SPARSE",
    "SVDF", "LSH_PROJECTION", "L2_NORMALIZATION", "LOCAL_RESPONSE_NORMALIZATION", "SOFTMAX", "LOG_SOFTMAX",
    "SPACE_TO_DEPTH", "DEPTH_TO_SPACE", "SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND", "BATCH_MATMUL", "ONE_HOT",
)  # fmt: skip
"""Operators that divide by a dimension of an input, so that none may be 0 (CVE-2021-29602, CVE-2022-23557)."""

_SAME_TYPE = (
    "RELU", "RELU6", "RELU_N1_TO_1", "RELU_0_TO_1", "TANH", "LOGISTIC", "SOFTMAX", "LOG_SOFTMAX", "HARD_SWISH", "ELU",
    "GELU", "LEAKY_RELU", "RESHAPE", "SQUEEZE", "EXPAND_DIMS", "CONCATENATION", "PACK", "UNPACK", "PAD", "TRANSPOSE",
    "AVERAGE_POOL_2D", "MAX_POOL_2D",
)  # fmt: skip
"""Operators whose first output has the type of their first input. Some kernels write as many bytes as they read."""

_WEIGHTS = {"CONV_2D": 1, "DEPTHWISE_CONV_2D": 1, "FULLY_CONNECTED": 1, "TRANSPOSE_CONV": 1, "CONV_3D": 1}
_NO_RANK = 8  # the most dimensions that RESHAPE's options can hold
_DETECTION = "TFLite_Detection_PostProcess"


def check_operations(structure: Structure) -> None:
    """Check the operators of every subgraph.

    Raises:
        Problem: an operator breaks a rule.
    """
    calls: dict[int, set[int]] = {}
    for number, part in enumerate(structure.parts):
        checker = _Checker(structure, part, "" if number == 0 else f"subgraph {number}, ")
        for index, operation in enumerate(part.operations):
            checker.check(index, operation)
        checker.check_end()
        calls[number] = checker.calls
    _check_recursion(calls)


def custom_operators(structure: Structure) -> tuple[tuple[int, str], ...]:
    """Return the index and the name of the first operator of each custom type, over all subgraphs."""
    found: dict[str, int] = {}
    for part in structure.parts:
        for index, operation in enumerate(part.operations):
            number, custom = structure.codes[operation.code]
            if OPERATORS[number : number + 1] == ("CUSTOM",):
                found.setdefault(custom, index)
    return tuple((index, name) for name, index in found.items())


def work_of(structure: Structure) -> tuple[int, int, int]:
    """Return how much one run costs, from the shapes in the file.

    Returns:
        Multiply-adds, bytes of all activations, and the most bytes of activations that are alive at the same time in
        one of the subgraphs.
    """
    work = memory = peak = 0
    for part in structure.parts:
        sizes = {index: tensor.size_bytes for index, tensor in enumerate(part.tensors) if tensor.data is None}
        memory += sum(sizes.values())
        steps = [(operation.inputs, operation.outputs) for operation in part.operations]
        peak = max(peak, peak_bytes(sizes, steps, part.inputs, part.outputs))
        for operation in part.operations:
            number, _ = structure.codes[operation.code]
            made = max((part.tensors[index].elements for index in operation.outputs), default=0)
            place = _WEIGHTS.get(OPERATORS[number] if number < len(OPERATORS) else "")
            if place is not None and len(operation.inputs) > place:
                weights = part.tensors[operation.inputs[place]].shape or (1,)
                # Weights of one output value: without the output channels, which DEPTHWISE_CONV_2D has last.
                made *= math.prod(weights[:-1] if OPERATORS[number] == "DEPTHWISE_CONV_2D" else weights[1:])
            work += made
    return work, memory, peak


class _Checker:
    """Checks the operators of one subgraph, in the order of execution."""

    def __init__(self, structure: Structure, part: Part, where: str) -> None:
        self._structure, self._part, self._where = structure, part, where
        tensors = part.tensors
        self._ready = {i for i, tensor in enumerate(tensors) if tensor.data is not None or tensor.is_variable}
        self._ready.update(i for i, tensor in enumerate(tensors) if 0 in tensor.shape)  # nothing to compute
        self._ready.update(part.inputs)
        self._given = frozenset(i for i in self._ready if not tensors[i].is_variable and 0 not in tensors[i].shape)
        self._computed: set[int] = set()
        self.calls: set[int] = set()

    def check(self, index: int, operation: Operation) -> None:
        """Check one operator; the indices of its tensors come first, because everything else relies on them."""
        in_range(f"{self._where}operator {index} has type", operation.code, len(self._structure.codes), "types")
        number, custom = self._structure.codes[operation.code]
        name = OPERATORS[number] if number < len(OPERATORS) else str(number)
        what = f"{self._where}operator {index} ({custom if name == 'CUSTOM' else name})"
        if name in ("DELEGATE", "PLACEHOLDER_FOR_GREATER_OP_CODES"):
            raise Problem(f"{what} is of a type that no file has")
        self._check_arity(what, name, operation)
        self._check_order(what, name, operation)
        self._check_options(what, name, operation)
        if name == "CUSTOM" and custom == _DETECTION:
            _check_detection(what, operation)

    def check_end(self) -> None:
        """Check that the subgraph's outputs were computed."""
        for index in self._part.outputs:
            if index not in self._ready:
                raise Problem(f"{self._where}no operator computes its output, tensor {index}")

    def _check_arity(self, what: str, name: str, operation: Operation) -> None:
        count = len(self._part.tensors)
        for index in operation.inputs:
            in_range(f"{what} reads tensor", index, count, "tensors", least=-1)
        for index in operation.outputs:
            in_range(f"{what} writes tensor", index, count, "tensors")
        arity = ARITIES.get(name)
        if arity is None:
            return
        for side, indices, least, most in (
            ("inputs", operation.inputs, arity.least_inputs, arity.most_inputs),
            ("outputs", operation.outputs, arity.least_outputs, arity.most_outputs),
        ):
            if not least <= len(indices) <= most:
                wanted = f"{least}" if least == most else f"{least} to {most}"
                raise Problem(f"{what} has {len(indices)} {side}, not {wanted}")
        if name not in OPTIONAL_INPUTS and -1 in operation.inputs[: arity.least_inputs]:
            raise Problem(f"{what} lacks its input {operation.inputs.index(-1)}")
        tensors = self._part.tensors
        if name in _POSITIVE:
            for index in operation.inputs:
                if index >= 0 and 0 in tensors[index].shape:
                    raise Problem(f"{what} reads tensor {index}, which has a dimension of 0")
        if name in _SAME_TYPE and tensors[operation.inputs[0]].kind != tensors[operation.outputs[0]].kind:
            raise Problem(f"{what} writes another type than it reads")
        if name == "RESHAPE":
            self._check_reshape(what, operation)

    def _check_order(self, what: str, name: str, operation: Operation) -> None:
        for place, index in enumerate(operation.inputs):
            # Old converters gave RESHAPE a second input without data, which kernels ignore.
            if index >= 0 and index not in self._ready and (name, place) != ("RESHAPE", 1):
                raise Problem(f"{what} reads tensor {index}, which no operator before it computes")
        for index in operation.outputs:
            if index in self._given:
                raise Problem(f"{what} writes tensor {index}, which is a constant or an input")
            if index in self._computed and not self._part.tensors[index].is_variable:
                raise Problem(f"{what} writes tensor {index}, which an operator before it computes")
            self._computed.add(index)
            self._ready.add(index)
        for index in operation.table.integers(schema.Operator.INTERMEDIATES):
            in_range(f"{what} uses tensor", index, len(self._part.tensors), "tensors", least=-1)

    def _check_options(self, what: str, name: str, operation: Operation) -> None:
        wanted = OPTIONS.get(name)
        kind = operation.table.scalar(schema.Operator.OPTIONS_TYPE, "<B")
        options = operation.table.table(schema.Operator.OPTIONS)
        if wanted is not None:
            if options is None or kind != wanted.kind:
                raise Problem(f"{what} lacks its options")
            for field, option, form, default, least, most in wanted.ranges:
                value = options.scalar(field, form, default)
                if not least <= value <= most:
                    raise Problem(f"{what} has {option} {value}")
            for called in _CALLS.get(name, ()):
                self._check_call(what, options.scalar(called, "<i"))
        kind = operation.table.scalar(schema.Operator.OPTIONS_2_TYPE, "<B")
        options = operation.table.table(schema.Operator.OPTIONS_2)
        for called in _CALLS_2.get(kind, ()) if options else ():
            assert options is not None
            self._check_call(what, options.scalar(called, "<i"))

    def _check_call(self, what: str, index: int) -> None:
        in_range(f"{what} runs subgraph", index, len(self._structure.parts), "subgraphs")
        self.calls.add(index)

    def _check_reshape(self, what: str, operation: Operation) -> None:
        """Check the new shape of a constant, which a kernel copies while it is prepared (tensorflow issue 124982)."""
        tensors = self._part.tensors
        options = operation.table.table(schema.Operator.OPTIONS)
        is_reshape = operation.table.scalar(schema.Operator.OPTIONS_TYPE, "<B") == 17
        shape = options.integers(0) if options is not None and is_reshape else ()
        if len(shape) > _NO_RANK:
            raise Problem(f"{what} has a shape of {len(shape)} dimensions")
        source = tensors[operation.inputs[0]]
        wanted = tensors[operation.inputs[1]] if len(operation.inputs) > 1 and operation.inputs[1] >= 0 else None
        if wanted is not None and wanted.data is not None and wanted.kind == 2:
            start, length = wanted.data
            shape = struct.unpack_from(f"<{length // 4}i", self._structure.data, start)
        if (source.data is not None or source.is_variable) and shape and not _fits(source, shape):
            raise Problem(f"{what} gives tensor {operation.inputs[0]} a shape of another size")


def _fits(source: TensorFacts, shape: tuple[int, ...]) -> bool:
    """Return whether a tensor can have a new shape, of which one dimension may be open (-1)."""
    known = math.prod(n for n in shape if n != -1)
    if shape.count(-1) == 1:
        return known > 0 and source.elements % known == 0
    return min(shape) >= 0 and known == source.elements


def _check_detection(what: str, operation: Operation) -> None:
    """Check the products that the kernel computes in 32 bits (tensorflow issue 111638)."""
    try:
        options = read_numbers(operation.table.raw(schema.Operator.CUSTOM_OPTIONS))
    except ValueError as error:
        raise Problem(f"{what} has damaged options ({error})") from None
    largest = 1.0
    for name in ("max_detections", "max_classes_per_detection", "num_classes", "detections_per_class"):
        count = options.get(name, 1)
        if not 0 <= count <= MOST_ELEMENTS:
            raise Problem(f"{what} has {name} {count:.0f}")
        largest *= max(1.0, count)
    if largest > MOST_ELEMENTS:
        raise Problem(f"{what} makes more detections than it can count")


def _check_recursion(calls: dict[int, set[int]]) -> None:
    """Check that no subgraph runs itself, directly or through others: the runtime would exhaust its stack."""
    left = {number: set(called) for number, called in calls.items()}
    while left:
        free = [number for number, called in left.items() if not called & left.keys()]
        if not free:
            raise Problem(f"subgraph {_on_a_cycle(left)} runs itself")
        for number in free:
            del left[number]


def _on_a_cycle(calls: dict[int, set[int]]) -> int:
    """Return a subgraph that runs itself, where each runs at least one of the others."""
    number, seen = min(calls), set[int]()
    while number not in seen:
        seen.add(number)
        number = min(calls[number] & calls.keys())
    return number
