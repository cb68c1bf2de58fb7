"""By what networks are ranked while they are trained."""

from __future__ import annotations

from edgeq.sweeping.training import _score
from edgeq.training import Epoch


def epoch(top1: float, validation_top1: float) -> Epoch:
    return Epoch("from scratch", 1, 1.0, top1, 1.0, validation_top1, 1.0)


def test_the_best_validation_accuracy_counts() -> None:
    assert _score([epoch(0.9, 0.5), epoch(0.95, 0.4)], photos=400, classes=10) == 0.5


def test_at_chance_the_training_accuracy_counts() -> None:
    assert _score([epoch(0.16, 0.1), epoch(0.31, 0.12)], photos=400, classes=10) == 0.31
    assert _score([epoch(0.05, 0.1)], photos=400, classes=10) == 0.1
    assert _score([epoch(0.31, 0.14)], photos=400, classes=10) == 0.14  # the interval of chance ends at 13.3 %
