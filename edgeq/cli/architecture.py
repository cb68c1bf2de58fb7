"""Options that describe the network to build, shared by several commands."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click

from edgeq.cli.help import option, together
from edgeq.cli.values import Size
from edgeq.networks import FAMILIES, OUTPUT_STRIDES, Architecture, choose_output_stride, default_output_stride

__all__ = [
    "AUTO",
    "BUILDING",
    "DEFAULT_SIZE",
    "architecture_options",
    "chosen_architecture",
    "chosen_output_stride",
    "res_option",
]

F = TypeVar("F", bound=Callable[..., Any])

BUILDING = ("family", "alpha", "output_stride", "head", "classes")
"""Parameters that apply only to networks that edgeq builds."""
DEFAULT_SIZE = (224, 224)
"""Height and width of these networks."""

AUTO = "auto"
"""Value of --output-stride for `edgeq.networks.choose_output_stride`."""


def res_option(default: str) -> Callable[[F], F]:
    """Return the option --res; `default` describes the default size."""
    return option(
        "Network",
        "--res",
        "size",
        type=Size(),
        metavar="N|WxH",
        show_default=default,
        help="Input size in pixels, as N or WIDTHxHEIGHT.",
    )


architecture_options = together(
    option(
        "Network",
        "--network",
        "family",
        type=click.Choice(FAMILIES),
        default=FAMILIES[0],
        metavar="NAME",
        help=f"Architecture: {', '.join(FAMILIES)}. MobileNetV3 takes pixels 0..255 and normalizes them itself.",
    ),
    option(
        "Network",
        "--alpha",
        type=float,
        metavar="FACTOR",
        show_default="that of the weights, else 1.0",
        help="Width multiplier.",
    ),
    option(
        "Network",
        "--output-stride",
        type=click.Choice([*map(str, OUTPUT_STRIDES), AUTO]),
        metavar="4|8|16|32|auto",
        show_default="32, or auto for inputs below 96 pixels",
        help="Input side divided by the side of the last feature map. auto: the largest value that gives at least 4x4.",
    ),
    option(
        "Network",
        "--head",
        type=click.IntRange(0),
        metavar="N",
        show_default="the network's own head",
        help="Replace the head with global average pooling, a dense layer of N units (0: none) and a classifier.",
    ),
)


def chosen_output_stride(text: str | None, height: int, width: int) -> int | None:
    """Return the output stride for this input size, or None to let `build_network` choose it."""
    if text == AUTO:
        return choose_output_stride(height, width)
    return None if text is None else int(text)


def chosen_architecture(
    size: tuple[int, int] | None,
    family: str,
    alpha: float | None,
    output_stride: str | None,
    head: int | None,
    classes: int = 1000,
) -> Architecture:
    """What the options of a network that edgeq builds say; those left away have the defaults in their help."""
    height, width = size or DEFAULT_SIZE
    stride = chosen_output_stride(output_stride, height, width) or default_output_stride(height, width)
    return Architecture(family, height, width, 1.0 if alpha is None else alpha, stride, classes, head)
