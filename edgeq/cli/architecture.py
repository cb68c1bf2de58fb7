"""Options that say which network to build, shared by the commands that build one."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeq.networks import FAMILIES, OUTPUT_STRIDES, choose_output_stride

__all__ = ["BUILDING", "Size", "architecture_options", "chosen_output_stride", "res_option"]

F = TypeVar("F", bound=Callable[..., Any])

BUILDING = {
    "family": "--network",
    "alpha": "--alpha",
    "output_stride": "--output-stride",
    "head": "--head",
    "classes": "--classes",
}
"""Options that only a network built here has a use for: parameters, and their names on the command line."""

_AUTO = "auto"


class Size(click.ParamType[Any]):
    """``160`` or ``160x120`` (width x height), as (height, width)."""

    name = "size"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, int]:
        """Parse the option's value into (height, width)."""
        match = re.fullmatch(r"(\d+)(?:x(\d+))?", str(value))
        if not match:
            self.fail(
                f"{value!r} is no size; give pixels, such as 160, or WIDTHxHEIGHT, such as 160x120",
                param,
                ctx,
            )
        width = int(match[1])
        return int(match[2] or width), width


def res_option(default: str) -> Callable[[F], F]:
    """The option --res, whose help ends in what happens without it."""
    return click.option(
        "--res", "size", type=Size(), metavar="N|WxH", help=f"Input size in pixels. Default: {default}."
    )


_OPTIONS = (
    click.option(
        "--network",
        "family",
        type=click.Choice(FAMILIES),
        default=FAMILIES[0],
        show_default=True,
        help="What to build. MobileNetV3 takes pixels 0..255 and normalizes them itself.",
    ),
    click.option("--alpha", type=float, help="Width multiplier. Default: what the weights have, else 1.0."),
    click.option(
        "--output-stride",
        type=click.Choice([*map(str, OUTPUT_STRIDES), _AUTO]),
        metavar="4|8|16|32|auto",
        help="Input pixels per cell of the last feature map. auto: the largest that leaves 4x4 cells. Default: 32, "
        "or auto for inputs below 96 pixels.",
    ),
    click.option(
        "--head",
        type=click.IntRange(0),
        metavar="N",
        help="Replace what follows the last feature map by global average pooling, N units (0: none) and the "
        "classifier.",
    ),
)


def architecture_options(command: F) -> F:
    """--network, --alpha, --output-stride and --head, as family, alpha, output_stride and head."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command


def chosen_output_stride(text: str | None, height: int, width: int) -> int | None:
    """What --output-stride says for an input of that size; None leaves it to `build_network`."""
    if text == _AUTO:
        return choose_output_stride(height, width)
    return None if text is None else int(text)
