"""Notice a camera that has seen something unlike the photos of a comparison for long: covered, moved or out of focus.

Frames of a video resemble each other, so their number proves nothing: an hour with one object in view shows one label
100,000 times. As in the method of batch means (Law, Simulation Modeling and Analysis, chapter 9), time is divided into
periods that are long enough to count as independent: a scene is assumed to last no longer than half an hour. Each
period counts once, however many frames it has, and only when it is over.

A period in which nearly all frames have one label says what to look for. If the camera saw what the photos show, the
next period would have the same label with the chance p of that label among the photos, and k more periods in a row with
p^k. The same holds for periods in which the model is at most as sure as on a share p of the photos. If p^k is below 1
in 1,000, a deviation is reported. So a label that none of 100 photos has takes an hour and a half, one of every tenth
photo two and a half, and one of every second photo six. A label of more than 93 % of the photos, such as "nobody", is
always normal.

A model is less sure of a camera's frames than of good photos, even if the camera sees well. So low probabilities count
only if their mean is nearer to guessing (1 / number of classes) than to the photos' mean.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from itertools import takewhile

from edgeq.errors import one_line
from edgeq.watching.expected import Expected
from edgeq.watching.observed import Observed

__all__ = ["Deviation", "DeviationDetector"]

PERIOD_S = 1800.0
"""Length of a period in seconds: the longest that a scene is assumed to last."""

_MOST = 96  # periods: two days
_NEARLY_ALL = 0.95  # share of the frames of a period
_CHANCE = 0.001
_QUESTION = "Is the camera covered, moved or out of focus?"


@dataclass(frozen=True)
class Deviation:
    """What the camera saw is unlike the photos.

    Attributes:
        since: when it began, in seconds since 1970.
        until: the end of the last period, in seconds since 1970.
        reason: what is unlike the photos: a sentence, and a question for the person who looks at it.
    """

    since: float
    until: float
    reason: str


@dataclass
class _Period:
    """Consecutive frames.

    Attributes:
        since: time of the first frame.
        until: time of the last one.
        labels: number of frames by label.
        probabilities: sum of the labels' probabilities.
    """

    since: float
    until: float
    labels: Counter[str] = field(default_factory=Counter)
    probabilities: float = 0.0

    @property
    def mean_probability(self) -> float:
        return self.probabilities / self.labels.total()

    @property
    def label(self) -> str | None:
        """The label of nearly all frames; None if there is none."""
        label, frames = self.labels.most_common(1)[0]
        return label if frames >= _NEARLY_ALL * self.labels.total() else None


class DeviationDetector:
    """Compares frames with photos, period by period.

    Attributes:
        found: what is unlike the photos, as of the last period that is over; None if nothing is.
    """

    def __init__(self, expected: Expected) -> None:
        """Start without frames."""
        self.found: Deviation | None = None
        self._expected = expected
        self._open: _Period | None = None
        self._over: deque[_Period] = deque(maxlen=_MOST)  # the newest first

    def add(self, observed: Observed) -> None:
        """Add a frame. Only its own prediction counts, without those of the frames before it."""
        time, best = observed.time, observed.predictions[0]
        if self._open is not None and time >= self._open.since + PERIOD_S:
            self._over.appendleft(self._open)
            self.found = self._one_label() or self._unsure()
            self._open = None
        if self._open is None or time < self._open.since:  # the clock may have been set back
            self._open = _Period(time, time)
        self._open.until = time
        self._open.labels[best.label] += 1
        self._open.probabilities += best.probability

    def _one_label(self) -> Deviation | None:
        label = self._over[0].label
        if label is None:
            return None
        periods = list(takewhile(lambda period: period.label == label, self._over))
        expected = self._expected
        return self._deviation(
            periods,
            expected.chance_of_label(label),
            f'at least {_percent(_NEARLY_ALL)} of the frames were classified as "{one_line(label)}", '
            f"but only {expected.images_of(label)} of the {expected.images} photos",
        )

    def _unsure(self) -> Deviation | None:
        expected = self._expected
        periods = list(takewhile(lambda each: expected.is_nearer_to_guessing(each.mean_probability), self._over))
        highest = max((period.mean_probability for period in periods), default=0.0)
        return self._deviation(
            periods,
            expected.chance_of_less(highest),
            f"the model was unsure: its mean probability was at most {_percent(highest)}, "
            f"but {_percent(expected.mean_probability)} on the photos",
        )

    @staticmethod
    def _deviation(periods: list[_Period], chance: float, what: str) -> Deviation | None:
        if not periods or chance ** (len(periods) - 1) >= _CHANCE:
            return None
        since, until = periods[-1].since, periods[0].until
        return Deviation(since, until, f"For {_duration(until - since)}, {what}. {_QUESTION}")


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.0f} minutes" if seconds < 2 * 3600 else f"{seconds / 3600:.1f} hours"
