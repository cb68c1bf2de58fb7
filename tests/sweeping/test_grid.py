"""The grid, and the limits."""

from __future__ import annotations

import pytest

from edgeq.errors import InputError
from edgeq.sweeping import SweepGrid, SweepLimits


def test_a_grid_is_every_combination_once() -> None:
    grid = SweepGrid(("mobilenet_v2", "mobilenet_v3_small"), (0.35, 1.0, 1), ((96, 96), (64, 48)))
    found = grid.architectures(classes=5)
    assert [architecture.name for architecture in found] == [
        *("mobilenet_v2_0.35_96", "mobilenet_v2_0.35_48x64_os8", "mobilenet_v2_1.0_96", "mobilenet_v2_1.0_48x64_os8"),
        *("mobilenet_v3_small_0.35_96", "mobilenet_v3_small_0.35_48x64_os8"),
        *("mobilenet_v3_small_1.0_96", "mobilenet_v3_small_1.0_48x64_os8"),
    ]
    assert {architecture.classes for architecture in found} == {5}


def test_output_strides_fit_each_size() -> None:
    grid = SweepGrid(sizes=((96, 96), (224, 224)), output_strides=(None, "auto", 8))
    strides = [(a.height, a.output_stride) for a in grid.architectures(2)]
    assert strides == [(96, 32), (96, 16), (96, 8), (224, 32), (224, 8)]  # at 224, auto is the default


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"networks": ("resnet",)}, "network 'resnet': must be one of"),
        ({"formats": ("int4",)}, "format 'int4': must be one of"),
        ({"alphas": (-1.0,)}, "width multiplier -1"),
        ({"sizes": ((16, 16),), "output_strides": (32,)}, "too small for an output stride of 32"),
        ({"formats": ()}, "the grid is empty"),
    ],
)
def test_a_grid_that_is_impossible(options: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        SweepGrid(**options).architectures(2)


def test_limits_say_what_is_missed() -> None:
    limits = SweepLimits(max_ms=30, max_bytes=1_000_000, max_ram_bytes=80_000_000)
    assert limits.missed(30, 1_000_000, None) == ""
    assert limits.missed(31.26, 10, 1) == "31.3 ms is above 30 ms"
    assert limits.missed(1, 1_000_001, 90_000_000) == (
        "1000001 bytes are more than 1000000, 90.0 MB of memory are more than 80.0 MB"
    )
    assert SweepLimits().missed(1e9, 10**12, 10**12) == ""


def test_the_excess_is_that_of_the_limit_that_is_missed_most() -> None:
    limits = SweepLimits(max_ms=10, max_bytes=100)
    assert limits.excess(20, 150, None) == 2
    assert limits.excess(5, 150, 10**12) == 1.5
