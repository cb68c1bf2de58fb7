"""Successive halving over epochs (Jamieson and Talwalkar 2016, arXiv 1502.07943).

All networks are trained for a few epochs. The most promising third goes on to three times as many, and so on. The
others stop. A network that goes on continues the same training, so the result is that of an uninterrupted one.
"""

from __future__ import annotations

from math import ceil

__all__ = ["kept", "rungs"]

_FACTOR = 3
_FEWEST = 2  # networks in the last rung: one could not show a trade between accuracy and latency
_FIRST_RUNG = 9  # it is at most a ninth of all epochs, for few networks too
_SHORTEST = 3  # epochs: before, networks from scratch are hardly better than chance, and no ranking is possible


def rungs(epochs: int, networks: int) -> list[int]:
    """Return the numbers of epochs after which networks are compared; the last is the whole training.

    >>> rungs(60, 12), rungs(60, 40), rungs(18, 9), rungs(60, 2)
    ([7, 20, 60], [3, 7, 20, 60], [3, 6, 18], [60])
    """
    if networks <= _FEWEST:
        return [epochs]
    found, part = [epochs], _FIRST_RUNG
    while networks > _FACTOR**2 * _FEWEST:
        networks, part = kept(networks), part * _FACTOR
    while found[0] > max(_SHORTEST, ceil(epochs / part)):
        found.insert(0, max(_SHORTEST, ceil(found[0] / _FACTOR)))
    return found


def kept(networks: int) -> int:
    """Return how many networks of a rung go on to the next."""
    return min(networks, max(_FEWEST, ceil(networks / _FACTOR)))
