"""Sums of floating-point numbers without rounding: parts add up to the same sum in any division and order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import astuple
from fractions import Fraction
from typing import Any

__all__ = ["Exact", "add", "exact", "numbers", "texts"]

Exact = int | Fraction
"""A sum of floating-point numbers without rounding."""


def exact(value: float) -> Exact:
    """Return a finite floating-point number as an exact one."""
    return int(value) if value == int(value) else Fraction(value)


def add(sums: Any, part: Any) -> None:
    """Add the attributes of a dataclass of exact numbers to those of another."""
    for name, value in vars(part).items():
        setattr(sums, name, getattr(sums, name) + value)


def texts(sums: Any) -> list[str]:
    """Return the attributes of a dataclass of exact numbers as text for JSON, such as ``3`` or ``1/2``."""
    return [str(value) for value in astuple(sums)]


def numbers(found: Sequence[str]) -> list[Any]:
    """Read the numbers that `texts` wrote; integers stay integers."""
    return [Fraction(text) if "/" in text else int(text) for text in found]
