"""The measures against brute force, closed forms and published numbers."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest

from edgeq.comparison.metrics import (
    PROBABILITY_FLOOR,
    kl_divergence,
    l1_distance,
    mcnemar_p,
    paired_difference_interval,
    shared_top1,
    sqnr_db,
    top_k_credit,
    top_set,
    wilson_interval,
)


def vector(*values: float) -> np.ndarray:
    return np.array(values, np.float64)


class TestKlDivergence:
    @pytest.mark.parametrize(
        ("p", "q", "nats"),
        [
            pytest.param((0.5, 0.5), (0.25, 0.75), 0.5 * math.log(2) + 0.5 * math.log(2 / 3), id="two-classes"),
            pytest.param((1.0, 0.0), (0.5, 0.5), math.log(2), id="certain-against-undecided"),
            pytest.param((0.36, 0.48, 0.16), (1 / 3, 1 / 3, 1 / 3), 0.0852996, id="published-example"),
            pytest.param((1.0, 0.0), (0.0, 1.0), math.log(1e6) + 1e-6, id="nothing-in-common"),
            pytest.param((0.5, 0.5), (0.25, 0.25), math.log(2) - 0.5, id="candidate-that-sums-to-less"),
        ],
    )
    def test_known_values(self, p: tuple[float, ...], q: tuple[float, ...], nats: float) -> None:
        """The published one: the worked example of Wikipedia's article on the divergence."""
        assert kl_divergence(vector(*p), vector(*q)) == pytest.approx(nats, abs=5e-7)

    def test_is_zero_for_equal_vectors_only(self) -> None:
        rng = np.random.default_rng(0)
        for _ in range(100):
            p, q = rng.dirichlet(np.ones(5), 2)
            # 8-bit probabilities do not quite sum to 1.
            p8, q8 = np.round(p * 256) / 256, np.round(q * 256) / 256
            assert kl_divergence(p, p) == pytest.approx(0, abs=1e-12)
            assert kl_divergence(p8, p8) == pytest.approx(0, abs=5 * PROBABILITY_FLOOR)
            assert kl_divergence(p, q) > 0
            assert kl_divergence(p8, q8) > 0 or np.array_equal(p8, q8)

    def test_is_finite_where_the_candidate_gives_nothing(self) -> None:
        assert math.isfinite(kl_divergence(vector(0.2, 0.8), vector(1.0, 0.0)))


class TestDistances:
    def test_l1(self) -> None:
        assert l1_distance(vector(0.7, 0.2, 0.1), vector(0.5, 0.2, 0.3)) == pytest.approx(0.4)
        assert l1_distance(vector(1, 0), vector(0, 1)) == 2
        assert l1_distance(vector(0.3, 0.7), vector(0.3, 0.7)) == 0

    @pytest.mark.parametrize(
        ("signal", "noise", "decibels"),
        [(100.0, 1.0, 20.0), (1.0, 1.0, 0.0), (2.0, 1.0, 3.0103), (1.0, 1000.0, -30.0), (5.0, 0.0, math.inf)],
    )
    def test_sqnr(self, signal: float, noise: float, decibels: float) -> None:
        assert sqnr_db(signal, noise) == pytest.approx(decibels, abs=1e-4)

    def test_sqnr_without_any_signal(self) -> None:
        assert sqnr_db(0.0, 1.0) == -math.inf

    @pytest.mark.parametrize("bits", [6, 8, 10])
    def test_sqnr_of_a_uniform_quantizer_is_six_decibels_a_bit(self, bits: int) -> None:
        signal = np.random.default_rng(0).uniform(-1, 1, 100_000)
        step = 2 / 2**bits
        noise = signal - np.round(signal / step) * step
        measured = sqnr_db(float(np.sum(signal**2)), float(np.sum(noise**2)))
        assert measured == pytest.approx(20 * bits * math.log10(2), abs=0.1)


def orders(scores: np.ndarray) -> list[list[int]]:
    """Every ranking of the classes that the scores allow, ties broken in every possible way."""
    classes = range(len(scores))
    rankings = map(list, itertools.permutations(classes))
    return [ranking for ranking in rankings if all(np.diff(scores[ranking]) <= 0)]


SCORES = [np.array(s, float) for s in [(3, 1, 2), (2, 2, 1), (1, 2, 2, 0), (5, 5, 5, 5), (0, 3, 3, 3, 1), (4,)]]


class TestTies:
    @pytest.mark.parametrize("scores", SCORES, ids=str)
    def test_credit_is_the_share_of_rankings_that_are_right(self, scores: np.ndarray) -> None:
        rankings = orders(scores)
        for label, k in itertools.product(range(len(scores)), range(1, len(scores) + 1)):
            share = sum(label in ranking[:k] for ranking in rankings) / len(rankings)
            assert top_k_credit(scores, label, k) == pytest.approx(share)

    @pytest.mark.parametrize("scores", SCORES, ids=str)
    def test_the_top_set_is_every_class_that_can_come_first(self, scores: np.ndarray) -> None:
        assert set(top_set(scores).tolist()) == {ranking[0] for ranking in orders(scores)}

    @pytest.mark.parametrize(
        ("first", "second"), [(a, b) for a, b in itertools.product(SCORES, SCORES) if len(a) == len(b)], ids=str
    )
    def test_agreement_is_the_share_of_pairs_of_rankings_that_agree(
        self, first: np.ndarray, second: np.ndarray
    ) -> None:
        pairs = list(itertools.product(orders(first), orders(second)))
        share = sum(a[0] == b[0] for a, b in pairs) / len(pairs)
        assert shared_top1(top_set(first), top_set(second)) == pytest.approx(share)

    def test_a_top5_of_three_classes_is_always_right(self) -> None:
        assert top_k_credit(vector(0.5, 0.3, 0.2), 2, 5) == 1


def binomial(n: int, p: float) -> list[float]:
    return [math.comb(n, k) * p**k * (1 - p) ** (n - k) for k in range(n + 1)]


class TestWilson:
    @pytest.mark.parametrize(
        ("successes", "count", "low", "high"),
        [
            pytest.param(81, 263, 0.2553, 0.3662, id="newcombe-81-of-263"),
            pytest.param(15, 148, 0.0624, 0.1605, id="newcombe-15-of-148"),
            pytest.param(0, 20, 0.0, 0.1611, id="newcombe-0-of-20"),
            pytest.param(1, 29, 0.0061, 0.1718, id="newcombe-1-of-29"),
            pytest.param(10, 20, 0.2993, 0.7007, id="10-of-20"),
            pytest.param(20, 20, 0.8389, 1.0, id="20-of-20"),
        ],
    )
    def test_published_intervals(self, successes: int, count: int, low: float, high: float) -> None:
        """Newcombe 1998, Statistics in Medicine 17, table I, method 3."""
        assert wilson_interval(successes, count) == pytest.approx((low, high), abs=6e-5)

    @pytest.mark.parametrize("successes", [0.5, 3, 7.25, 39])
    def test_its_ends_solve_the_score_equation(self, successes: float) -> None:
        """At each end the observed share is 1.96 standard errors away, those of that end's own share."""
        count = 40
        for end in wilson_interval(successes, count):
            z = abs(successes / count - end) / math.sqrt(end * (1 - end) / count)
            assert z == pytest.approx(1.959964, abs=1e-5)

    def test_covers_about_95_percent(self) -> None:
        count = 60
        intervals = [wilson_interval(k, count) for k in range(count + 1)]
        coverages = [
            sum(weight for weight, (low, high) in zip(binomial(count, p), intervals, strict=True) if low <= p <= high)
            for p in np.linspace(0.02, 0.98, 193)
        ]
        assert float(np.mean(coverages)) == pytest.approx(0.95, abs=0.01)
        assert min(coverages) > 0.89


class TestPairedDifference:
    @pytest.mark.parametrize(
        ("only_first", "only_second", "count", "low", "high"),
        [
            # By hand: (10.5 - 4.5) / 102 -+ 1.959964 * sqrt(15 - 36 / 102) / 102
            pytest.param(10, 4, 100, -0.014716, 0.132363, id="10-against-4-of-100"),
            # 0 -+ 1.959964 * sqrt(1) / 12
            pytest.param(0, 0, 10, -0.163330, 0.163330, id="no-difference"),
            # (40.5 - 0.5) / 502 -+ 1.959964 * sqrt(41 - 1600 / 502) / 502
            pytest.param(40, 0, 500, 0.055673, 0.103690, id="40-against-none-of-500"),
        ],
    )
    def test_values_by_hand(self, only_first: float, only_second: float, count: int, low: float, high: float) -> None:
        assert paired_difference_interval(only_first, only_second, count) == pytest.approx((low, high), abs=2e-6)

    def test_changing_sides_changes_signs(self) -> None:
        low, high = paired_difference_interval(9, 2, 50)
        assert paired_difference_interval(2, 9, 50) == pytest.approx((-high, -low))

    def test_stays_within_what_a_difference_can_be(self) -> None:
        assert paired_difference_interval(1, 0, 1)[1] <= 1
        assert paired_difference_interval(0, 1, 1)[0] >= -1

    @pytest.mark.parametrize(("p_first", "p_second"), [(0.05, 0.05), (0.1, 0.02), (0.3, 0.1), (0.01, 0.01)])
    def test_covers_at_least_about_95_percent(self, p_first: float, p_second: float) -> None:
        """By enumeration of the trinomial distribution."""
        count, covered, total = 40, 0.0, 0.0
        for b in range(count + 1):
            for c in range(count + 1 - b):
                ways = math.comb(count, b) * math.comb(count - b, c)
                weight = ways * p_first**b * p_second**c * (1 - p_first - p_second) ** (count - b - c)
                low, high = paired_difference_interval(b, c, count)
                total += weight
                covered += weight * (low <= p_first - p_second <= high)
        assert total == pytest.approx(1)
        assert covered > 0.94


class TestMcnemar:
    @pytest.mark.parametrize(
        ("first", "second", "p"),
        [
            pytest.param(0, 0, 1.0, id="nothing-differs"),
            pytest.param(5, 5, 1.0, id="even"),
            pytest.param(1, 0, 1.0, id="one"),
            pytest.param(5, 0, 2 / 32, id="5-0"),
            pytest.param(1, 7, 18 / 256, id="1-7"),
            pytest.param(12, 5, 2 * 9402 / 131072, id="12-5"),
            pytest.param(0, 10, 2 / 1024, id="0-10"),
        ],
    )
    def test_values_by_hand(self, first: int, second: int, p: float) -> None:
        assert mcnemar_p(first, second) == pytest.approx(p)
        assert mcnemar_p(second, first) == pytest.approx(p)

    @pytest.mark.parametrize(("first", "second"), [(b, c) for b in range(6) for c in range(6) if b + c])
    def test_is_the_share_of_coin_tosses_at_least_as_uneven(self, first: int, second: int) -> None:
        tosses = list(itertools.product((-1, 1), repeat=first + second))
        share = sum(abs(sum(toss)) >= abs(first - second) for toss in tosses) / len(tosses)
        assert mcnemar_p(first, second) == pytest.approx(share)

    def test_many_images(self) -> None:
        assert mcnemar_p(500, 500) == pytest.approx(1.0)
        assert 0 <= mcnemar_p(1000, 500) < 1e-30
