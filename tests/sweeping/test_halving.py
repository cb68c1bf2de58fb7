"""How many networks are trained for how many epochs."""

from __future__ import annotations

import pytest

from edgeq.sweeping.halving import kept, rungs


@pytest.mark.parametrize(
    ("epochs", "networks", "expected"),
    [
        (18, 9, [3, 6, 18]),
        (60, 12, [7, 20, 60]),
        (18, 2, [18]),
        (9, 9, [3, 9]),
        (4, 9, [3, 4]),
        (1, 30, [1]),
        (60, 40, [3, 7, 20, 60]),
    ],
)
def test_rungs(epochs: int, networks: int, expected: list[int]) -> None:
    assert rungs(epochs, networks) == expected


def test_a_third_goes_on_but_at_least_two() -> None:
    assert [kept(networks) for networks in (1, 2, 3, 6, 7, 9, 30)] == [1, 2, 2, 2, 3, 3, 10]


@pytest.mark.parametrize("networks", range(6, 80))
def test_it_takes_less_than_half_of_all_epochs(networks: int) -> None:
    done = spent = 0
    alive = networks
    for target in rungs(54, networks):
        spent += alive * (target - done)
        done, alive = target, kept(alive)
    assert done == 54
    assert spent < 0.5 * 54 * networks
