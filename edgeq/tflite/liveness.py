"""How much memory the activations of a graph need."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from itertools import accumulate

__all__ = ["peak_bytes"]


def peak_bytes(
    sizes: Mapping[int, int],
    steps: Sequence[tuple[Collection[int], Collection[int]]],
    inputs: Collection[int],
    outputs: Collection[int],
) -> int:
    """Compute the largest total size of the tensors that are alive at the same time, in bytes.

    A tensor is alive from the operator that computes it to the last operator that reads it. The graph's inputs are
    alive from the start, its outputs until the end. A runtime needs at least this much memory, unless it computes in
    place, plus memory for alignment and scratch buffers.

    Args:
        sizes: bytes of each activation, by the tensor's index; tensors that are not in it take no memory.
        steps: the tensors that each operator reads, and those that it computes, in the order of execution.
        inputs: tensors that the graph gets.
        outputs: tensors that the graph returns.
    """
    born = dict.fromkeys(inputs, 0)
    last: dict[int, int] = {}
    for step, (read, computed) in enumerate(steps):
        born |= dict.fromkeys(computed, step)
        last |= dict.fromkeys(read, step)
    last |= dict.fromkeys(outputs, len(steps))
    changes = [0] * (len(steps) + 2)
    for index, start in born.items():
        size = sizes.get(index, 0)
        changes[start] += size
        changes[max(start, last.get(index, start)) + 1] -= size
    return max(accumulate(changes))
