"""The time of all runs."""

from __future__ import annotations

import math

from edgeq.sweeping.budget import Budget


def test_earlier_runs_count() -> None:
    recorded: list[float] = []
    budget = Budget(60)
    budget.keep(50, recorded.append)
    assert 50 <= budget.spent < 51
    assert 9 < budget.left <= 10
    budget.tick()
    budget.tick()  # a moment later
    assert len(recorded) == 1
    budget.tick(at_once=True)
    assert 50 <= recorded[0] <= recorded[1] < 51


def test_without_a_limit() -> None:
    budget = Budget(None)
    budget.tick()  # nothing to record it yet
    assert budget.left == math.inf
