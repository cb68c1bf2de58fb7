"""The Pareto front of accuracy and latency, and the cells that stand out on it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

__all__ = ["Point", "best_trade", "fastest", "most_accurate", "pareto_front", "ranked"]


class Point(NamedTuple):
    """The accuracy and the latency of a cell.

    Attributes:
        top1: accuracy, in 0..1; higher is better.
        latency_ms: latency in milliseconds; lower is better.
    """

    top1: float
    latency_ms: float

    def dominates(self, other: Point) -> bool:
        """Return whether this point is at least as good in both and better in one."""
        return self.top1 >= other.top1 and self.latency_ms <= other.latency_ms and self != other


def pareto_front(points: Mapping[str, Point]) -> list[str]:
    """Return the names of the points that no other point dominates, the fastest first."""
    front = [name for name, point in points.items() if not any(p.dominates(point) for p in points.values())]
    return sorted(front, key=lambda name: (points[name].latency_ms, -points[name].top1, name))


def most_accurate(points: Mapping[str, Point]) -> str:
    """Return the name of the most accurate point; of equally accurate ones, the fastest."""
    return max(points, key=lambda name: (points[name].top1, -points[name].latency_ms))


def fastest(points: Mapping[str, Point], min_top1: float | None) -> str | None:
    """Return the name of the fastest point with at least this accuracy, or None if no point has it."""
    enough = {name: point for name, point in points.items() if min_top1 is None or point.top1 >= min_top1}
    return min(enough, key=lambda name: (enough[name].latency_ms, -enough[name].top1), default=None)


def best_trade(points: Mapping[str, Point]) -> str:
    """Return the name of the point of the front that is farthest above the line between the front's ends.

    Both axes are scaled to 0..1 from end to end. If no point is above the line, this is the most accurate one.
    """
    front = pareto_front(points)
    ends = points[front[0]], points[front[-1]]
    time, gain = ends[1].latency_ms - ends[0].latency_ms, ends[1].top1 - ends[0].top1

    def above(name: str) -> float:
        if not time or not gain:
            return 0.0
        point = points[name]
        return (point.top1 - ends[0].top1) / gain - (point.latency_ms - ends[0].latency_ms) / time

    return max(reversed(front), key=lambda name: round(above(name), 9))


def ranked(points: Mapping[str, Point]) -> list[str]:
    """Rank points by how promising they are for the front.

    The points of the front come first, then those of the front of all others, and so on (non-dominated sorting, Deb et
    al. 2002). Within a front, the most accurate point, the best trade and the fastest point come first, then the others
    by accuracy. These are the points that a sweep picks in the end.
    """
    left, found = dict(points), list[str]()
    while left:
        front = pareto_front(left)
        within = {name: left[name] for name in front}
        first: Iterable[str] = (most_accurate(within), best_trade(within), front[0])
        by_accuracy = sorted(front, key=lambda name: -within[name].top1)
        found += dict.fromkeys([*first, *by_accuracy])
        left = {name: point for name, point in left.items() if name not in within}
    return found
