"""The Pareto front and the picks, on points whose right answers can be seen."""

from __future__ import annotations

import itertools

import numpy as np

from edgeq.sweeping.front import Point, best_trade, fastest, most_accurate, pareto_front, ranked

POINTS = {
    "tiny": Point(0.50, 1.0),
    "small": Point(0.80, 2.0),
    "slow": Point(0.70, 5.0),  # dominated by small
    "middle": Point(0.85, 6.0),
    "large": Point(0.90, 11.0),
    "huge": Point(0.90, 20.0),  # as accurate as large, but slower
}


def test_the_front_has_what_nothing_dominates() -> None:
    assert pareto_front(POINTS) == ["tiny", "small", "middle", "large"]


def test_the_front_of_random_points_agrees_with_the_definition() -> None:
    rng = np.random.default_rng(0)
    points = {str(i): Point(round(a, 1), round(b, 1)) for i, (a, b) in enumerate(rng.random((40, 2)))}
    front = set(pareto_front(points))
    for name, point in points.items():
        better = [
            p
            for p in points.values()
            if (p.top1 > point.top1 and p.latency_ms <= point.latency_ms)
            or (p.top1 >= point.top1 and p.latency_ms < point.latency_ms)
        ]
        assert (name in front) == (not better)


def test_the_picks() -> None:
    assert most_accurate(POINTS) == "large"
    assert fastest(POINTS, 0.75) == "small"
    assert fastest(POINTS, None) == "tiny"
    assert fastest(POINTS, 0.95) is None
    # From tiny (0, 0) to large (1, 1): small is at (0.1, 0.75), middle at (0.5, 0.875).
    assert best_trade(POINTS) == "small"


def test_a_front_below_its_line_has_no_better_trade_than_its_accurate_end() -> None:
    points = {"fast": Point(0.5, 1), "bad": Point(0.51, 9), "accurate": Point(0.9, 10)}
    assert best_trade(points) == "accurate"
    assert best_trade({"only": Point(0.5, 1)}) == "only"
    assert best_trade({"a": Point(0.5, 1), "b": Point(0.5, 1)}) in {"a", "b"}


def test_ranks_put_the_front_before_what_it_dominates_and_the_picks_first() -> None:
    assert ranked(POINTS) == ["large", "small", "tiny", "middle", "huge", "slow"]


def test_ranks_do_not_depend_on_the_order() -> None:
    for order in itertools.islice(itertools.permutations(POINTS), 0, 720, 97):
        assert ranked({name: POINTS[name] for name in order}) == ranked(POINTS)
