"""A network's blocks as text: it fits any terminal, and its numbers stay whole."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

from edgeq.networks.sizes import Block, NetworkSummary
from edgeq.report.network import summary_lines


def summary(**changes: Any) -> NetworkSummary:
    """Of a network like MobileNetV3, cut short."""
    blocks = (
        Block("conv", "conv 3x3/2", (112, 112, 16), 496, 464, 5_419_008),
        Block("expanded_conv_10", "1x1, dw 5x5/2, SE, 1x1", (7, 7, 96), 296_592, 293_856, 6_260_736),
        Block("flat", "Flatten", (None,), 0, 0, 0),
        Block("predictions", "dense", (1000,), 4_705_000, 4_705_000, 12_345),
    )
    result = NetworkSummary("mobilenet_v3_small_1.0_224", (224, 224, 3), blocks)
    return dataclasses.replace(result, **changes)


def test_the_table() -> None:
    assert summary_lines(summary(), 80) == [
        "mobilenet_v3_small_1.0_224, input 224x224x3",
        "",
        "block             operators               output      parameters  mult-adds",
        "conv              conv 3x3/2              112x112x16         496      5.4 M",
        "expanded_conv_10  1x1, dw 5x5/2, SE, 1x1  7x7x96         296,592      6.3 M",
        "flat              Flatten                 ?                    -          -",
        "predictions       dense                   1000         4,705,000      0.0 M",
        "total                                                  5,002,088     11.7 M",
        "learned                                                4,999,320",
        "",
        "Mult-adds: multiply-adds for one image, in millions (M); 1x1: convolution of",
        "that size; dw: depthwise; /2: stride 2; SE: squeeze and excitation.",
    ]


@pytest.mark.parametrize("width", [44, 60, 80, 200])
def test_fits_and_keeps_its_numbers(width: int) -> None:
    lines = summary_lines(summary(not_counted=("a_layer_with_a_long_name", "another_layer_with_a_long_name")), width)
    assert max(map(len, lines)) <= width
    text = "\n".join(lines)
    for number in ("496", "296,592", "4,705,000", "5,002,088", "4,999,320", "11.7 M"):
        assert number in text


def test_operators_give_way_before_names_do() -> None:
    assert any(line.startswith("expanded_conv_10  7x7x96") for line in summary_lines(summary(), 60))
    assert any(
        line.startswith("expanded_conv_10  1x1, dw 5x5/2, SE,…  7x7x96") for line in summary_lines(summary(), 72)
    )


def test_only_terms_that_are_used_are_explained() -> None:
    plain = summary(blocks=(Block("scores", "dense", (10,), 330, 330, 320),))
    assert summary_lines(plain, 80)[-1] == "Mult-adds: multiply-adds for one image, in millions (M)."


@pytest.mark.parametrize(
    ("count", "names"),
    [
        (1, "lstm_0"),
        (5, "lstm_0, lstm_1, lstm_2, lstm_3, lstm_4"),
        (7, "lstm_0, lstm_1, lstm_2, lstm_3, lstm_4 and 2 more"),
    ],
)
def test_says_what_is_not_counted(count: int, names: str) -> None:
    lines = summary_lines(summary(not_counted=tuple(f"lstm_{number}" for number in range(count))), 80)
    assert f"Note: the multiply-adds of {names} are not counted" in " ".join(" ".join(lines).split())


def test_says_nothing_where_all_is_counted() -> None:
    assert not any("Note" in line for line in summary_lines(summary(), 80))
