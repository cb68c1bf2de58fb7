"""The sums of a comparison: exact, so that parts add up to the same numbers in any division and order."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import pytest

from edgeq.comparison.pair import NamedImage, Outputs
from edgeq.comparison.result import ModelResult
from edgeq.comparison.tally import Tally
from edgeq.errors import ModelError

MODEL = ModelResult("m.tflite", "", "", None, None, 1.0, 1)
CLASSES = 7


def outputs(number: int) -> Outputs:
    """Of two models that often disagree, with sums that rounding would change."""
    rng = np.random.default_rng(number)
    p, q = (rng.dirichlet(np.full(CLASSES, 0.5)) * rng.choice([1e-9, 1.0]) for _ in range(2))
    if number % 5 == 0:
        q = np.full(CLASSES, 1 / CLASSES)  # a tie, which counts a seventh
    return Outputs(p, q, float(p @ p) * 10.0 ** rng.integers(-8, 8), float((p - q) @ (p - q)), number % 3 == 0)


def tally(numbers: Sequence[int]) -> Tally:
    """Of some images; every eleventh cannot be read."""
    part = Tally()
    for number in numbers:
        if number % 11 == 0:
            part.skip(f"{number:05}.jpg", "damaged")
        else:
            part.add(NamedImage(f"{number:05}.jpg", number % CLASSES if number % 4 else None), outputs(number))
    return part


def text(whole: Tally) -> str:
    return json.dumps(whole.result(MODEL, MODEL, ()).to_json())


def merged(parts: Sequence[Sequence[int]], order: Sequence[int]) -> Tally:
    """The parts after each went through JSON, as from another machine, in the order in which they are finished."""
    whole = Tally()
    for number in order:
        whole.merge(Tally.from_json(json.loads(json.dumps(tally(parts[number]).to_json()))), number)
    return whole


@pytest.mark.parametrize("size", [1, 7, 100, 1000])
def test_any_division_and_order_gives_the_same_result(size: int) -> None:
    numbers = range(300)
    parts = [numbers[start : start + size] for start in range(0, len(numbers), size)]
    order = np.random.default_rng(size).permutation(len(parts)).tolist()
    assert text(merged(parts, order)) == text(tally(numbers))


def test_the_flips_with_the_largest_margins_are_kept_and_the_others_counted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.comparison.tally._MOST_FLIPS", 50)
    numbers = range(300)
    parts = [numbers[start : start + 60] for start in range(0, len(numbers), 60)]
    whole = tally(numbers).result(MODEL, MODEL, ())
    flipped = sum(
        np.argmax(found.reference) != np.argmax(found.candidate)
        for number in numbers
        if number % 11 and number % 5  # read, and without a tie
        for found in [outputs(number)]
    )
    assert len(whole.flips) == 50
    assert whole.flipped == 50 + whole.more_flips == flipped
    margins = [flip.reference_margin + flip.candidate_margin for flip in whole.flips]
    assert margins == sorted(margins, reverse=True)
    assert text(merged(parts, [4, 2, 0, 1, 3])) == json.dumps(whole.to_json())


def test_what_the_candidate_predicts() -> None:
    found = [outputs(number).candidate for number in range(300) if number % 11]
    whole = tally(range(300)).result(MODEL, MODEL, ())
    assert sum(each.images for each in whole.predicted) == whole.images == sum(whole.top_probabilities) == len(found)
    assert [each.images for each in whole.predicted] == sorted((each.images for each in whole.predicted), reverse=True)
    for each in whole.predicted:
        tops = [q.max() for q in found if q.argmax() == each.index]
        assert (each.images, each.share) == (len(tops), len(tops) / len(found))
        assert each.mean_probability == pytest.approx(np.mean(tops), rel=1e-12)
    in_part = sum(q.max() >= 0.95 for q in found)
    assert (whole.top_probabilities[-1], len(whole.top_probabilities)) == (in_part, 20)


def test_outputs_that_are_no_numbers_name_the_image() -> None:
    broken = Outputs(np.array([0.5, 0.5]), np.array([np.nan, 1.0]), 1.0, 1.0)
    with pytest.raises(ModelError, match=r"^a\.jpg: the candidate's outputs are NaN or infinite"):
        Tally().add(NamedImage("a.jpg"), broken)
