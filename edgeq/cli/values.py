"""Types of options: lists, times and sizes."""

from __future__ import annotations

import re
from typing import Any

import click

__all__ = ["Bytes", "Duration", "ListOf", "Size"]

_SECONDS = {"h": 3600, "m": 60, "s": 1}
_UNITS = {"": 1, "k": 1_000, "kb": 1_000, "m": 1_000_000, "mb": 1_000_000, "g": 1_000_000_000, "gb": 1_000_000_000}


class ListOf(click.ParamType[Any]):
    """Option type for a list such as ``96,128``, each item of a given type."""

    def __init__(self, item: click.ParamType[Any]) -> None:
        self.item, self.name = item, f"list of {item.name}"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[Any, ...]:
        """Split the value at its commas."""
        if isinstance(value, tuple):
            return value
        parts = [part.strip() for part in str(value).split(",")]
        return tuple(dict.fromkeys(self.item.convert(part, param, ctx) for part in parts))


class Duration(click.ParamType[Any]):
    """Option type for ``20m``, ``2h``, ``90s`` or ``1h30m``, converted to seconds."""

    name = "time"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        """Parse the option's value."""
        if not re.fullmatch(r"(\d+(\.\d+)?[hms])+", str(value)):
            self.fail(f"{value!r} is not a time; give hours, minutes or seconds, such as 2h, 20m or 1h30m", param, ctx)
        return sum(float(number) * _SECONDS[unit] for number, _, unit in re.findall(r"(\d+(\.\d+)?)([hms])", value))


class Bytes(click.ParamType[Any]):
    """Option type for ``4000000``, ``4M`` or ``500k``, converted to bytes."""

    name = "bytes"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse the option's value."""
        match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]?b?)", str(value).lower())
        if match is None or match[2] not in _UNITS:
            self.fail(f"{value!r} is not a size; give bytes, such as 4000000, 4M or 500k", param, ctx)
        return round(float(match[1]) * _UNITS[match[2]])


class Size(click.ParamType[Any]):
    """Option type for ``160`` or ``160x120`` (width x height), converted to (height, width)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse the option's value into (height, width)."""
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
        if not match:
            self.fail(
                f"{value!r} is not a size; give pixels, such as 160, or WIDTHxHEIGHT, such as 160x120", param, ctx
            )
        width = int(match[1])
        return int(match[2] or width), width
