"""Weights rounded and compensated, against least squares and against rounding to the nearest."""

from __future__ import annotations

import numpy as np
import pytest

from edgeq.refinement.rounding import Feedback, Moments, compensated_weights, round_weights

CHANNELS, ENTRIES, ROWS = 12, 90, 700  # more entries than are rounded at a time
LIMIT = 127


def inputs(depthwise: bool, seed: int = 0, correlation: float = 0.9) -> np.ndarray:
    """Input patches whose entries go together, as a picture's do: ([channels,] rows, entries)."""
    rng = np.random.default_rng(seed)
    shape = (CHANNELS, ROWS, ENTRIES) if depthwise else (ROWS, ENTRIES)
    common = rng.normal(size=(*shape[:-1], 5)) @ rng.normal(size=(*shape[:-2], 5, ENTRIES))
    return (correlation * common + (1 - correlation) * rng.normal(size=shape) + 2).astype(np.float32)


def weights(seed: int = 1) -> tuple[np.ndarray, np.ndarray]:
    target = np.random.default_rng(seed).normal(0, 0.3, (CHANNELS, ENTRIES)).astype(np.float32)
    return target, np.abs(target).max(axis=1) / np.float32(LIMIT)


def nearest(target: np.ndarray, scale: np.ndarray, limit: int = LIMIT) -> np.ndarray:
    return np.clip(np.rint(target / scale[:, np.newaxis]), -limit, limit)


def errors(change: np.ndarray, seen: np.ndarray) -> np.ndarray:
    """Variance of what a change of the weights does to each output channel, straight from the patches."""
    seen = seen if seen.ndim == 3 else np.broadcast_to(seen, (CHANNELS, *seen.shape))
    return np.stack([(rows.astype(np.float64) @ row).var() for rows, row in zip(seen, change, strict=True)])


@pytest.mark.parametrize("depthwise", [False, True], ids=["one-for-all", "depthwise"])
class TestRounding:
    @pytest.mark.parametrize("limit", [127, 7], ids=lambda limit: f"to-{limit}")
    def test_disturbs_the_outputs_less_than_the_nearest_does(self, limit: int, depthwise: bool) -> None:
        for seed in range(4):
            seen, (target, scale) = inputs(depthwise, seed), weights(seed)
            scale = scale * np.float32(127 / limit)
            rounded = round_weights(target, scale, Feedback.of(Moments.of(seen, seen)), -limit, limit)
            found, simple = (
                errors(integers * scale[:, np.newaxis] - target, seen)
                for integers in (rounded, nearest(target, scale, limit))
            )
            assert found.sum() < 0.5 * simple.sum()
            assert (found <= simple).all()  # in every channel

    def test_gives_integers_within_the_limits_and_near_the_target(self, depthwise: bool) -> None:
        seen, (target, scale) = inputs(depthwise), weights()
        scale = scale * np.float32(0.8)  # so that the largest are cut
        rounded = round_weights(target, scale, Feedback.of(Moments.of(seen, seen)))
        assert rounded.shape == target.shape
        np.testing.assert_array_equal(rounded, np.rint(rounded))
        assert (rounded.min(), rounded.max()) == (-LIMIT, LIMIT)
        low = round_weights(target, scale, Feedback.of(Moments.of(seen, seen)), -5, 3)
        assert (low.min(), low.max()) == (-5, 3)

    def test_is_the_nearest_where_inputs_have_nothing_in_common(self, depthwise: bool) -> None:
        target, scale = weights()
        variances = np.random.default_rng(2).uniform(0.1, 9, ENTRIES).astype(np.float32)
        moments = np.diag(variances)
        moments = np.broadcast_to(moments, (CHANNELS, ENTRIES, ENTRIES)) if depthwise else moments
        rounded = round_weights(target, scale, Feedback.of(Moments(moments, moments)))
        np.testing.assert_array_equal(rounded, nearest(target, scale))

    def test_inputs_that_never_vary_do_no_harm(self, depthwise: bool) -> None:
        seen, (target, scale) = inputs(depthwise), weights()
        seen[..., 10:30] = 0
        some = round_weights(target, scale, Feedback.of(Moments.of(seen, seen)))
        np.testing.assert_array_equal(some[:, 10:30], nearest(target, scale)[:, 10:30])
        none = round_weights(target, scale, Feedback.of(Moments.of(np.zeros_like(seen), np.zeros_like(seen))))
        np.testing.assert_array_equal(none, nearest(target, scale))

    def test_is_the_same_again(self, depthwise: bool) -> None:
        seen, (target, scale) = inputs(depthwise), weights()
        first, second = (round_weights(target, scale, Feedback.of(Moments.of(seen, seen))) for _ in range(2))
        np.testing.assert_array_equal(first, second)


@pytest.mark.parametrize("size", [1e-3, 1, 1e3])
def test_of_flat_pictures(size: float) -> None:
    """All entries of a large patch are the same: its moments have hardly an inverse."""
    rng = np.random.default_rng(0)
    seen = (size * rng.normal(size=(80, 1)) * np.ones(1280)).astype(np.float32)
    target = rng.normal(0, 0.3, (CHANNELS, 1280)).astype(np.float32)
    scale = np.abs(target).max(axis=1) / np.float32(LIMIT)
    rounded = round_weights(target, scale, Feedback.of(Moments.of(seen, seen)))
    found, simple = (
        errors(integers * scale[:, np.newaxis] - target, seen) for integers in (rounded, nearest(target, scale))
    )
    assert found.sum() < 0.1 * simple.sum()


def test_rounding_of_few_weights_is_nearly_the_best_of_all() -> None:
    """Against every way to round four weights up or down."""
    rng = np.random.default_rng(5)
    ratios = []
    for _ in range(20):
        seen = (rng.normal(size=(200, 2)) @ rng.normal(size=(2, 4)) + 0.3 * rng.normal(size=(200, 4))).astype(
            np.float32
        )
        target = rng.normal(0, 3, (1, 4)).astype(np.float32)
        rounded = round_weights(target, np.ones(1, np.float32), Feedback.of(Moments.of(seen, seen)))
        ups = np.array(np.meshgrid(*[[0, 1]] * 4)).reshape(4, -1).T
        best = min(((seen @ (np.floor(target[0]) + up - target[0])).var()) for up in ups)
        simple = (seen @ (np.rint(target) - target)[0]).var()
        ratios.append(((seen @ (rounded - target)[0]).var() - best) / (simple - best + 1e-9))
    assert np.median(ratios) < 0.5


@pytest.mark.parametrize("depthwise", [False, True], ids=["one-for-all", "depthwise"])
class TestCompensation:
    def distorted(self, depthwise: bool) -> tuple[np.ndarray, np.ndarray]:
        """What a float layer reads, and an integer layer whose inputs are wrong in the same way everywhere."""
        exact = inputs(depthwise, correlation=0.5)
        gain = np.random.default_rng(3).uniform(0.7, 1.3, ENTRIES).astype(np.float32)
        noise = np.random.default_rng(4).normal(0, 0.05, exact.shape).astype(np.float32)
        return exact, exact * gain + noise

    def test_without_a_ridge_it_is_least_squares(self, depthwise: bool) -> None:
        exact, seen = self.distorted(depthwise)
        target, _ = weights()
        compensated = compensated_weights(target, Moments.of(exact, seen), ridge=0)
        for channel in range(CHANNELS):
            x, y = (a[channel] if depthwise else a for a in (exact.astype(np.float64), seen.astype(np.float64)))
            # Least squares with a constant, which is the bias's part.
            design = np.column_stack([y, np.ones(ROWS)])
            best = np.linalg.lstsq(design, x @ target[channel], rcond=None)[0][:-1]
            np.testing.assert_allclose(compensated[channel], best, atol=2e-3)

    def test_held_firmly_the_weights_stay(self, depthwise: bool) -> None:
        target, _ = weights()
        moments = Moments.of(*self.distorted(depthwise))
        changes = [np.abs(compensated_weights(target, moments, ridge) - target).max() for ridge in (0.1, 10, 1e6)]
        assert changes[0] > changes[1] > changes[2]
        assert changes[2] < 1e-5

    def test_undoes_part_of_what_earlier_layers_did(self, depthwise: bool) -> None:
        exact, seen = self.distorted(depthwise)
        target, _ = weights()
        compensated = compensated_weights(target, Moments.of(exact, seen))
        remaining = []
        for candidate in (target, compensated):
            wanted, given = (np.einsum("...rk,ck->...cr", a, w) for a, w in ((exact, target), (seen, candidate)))
            remaining.append((wanted - given).var(axis=-1).sum())
        assert remaining[1] < 0.9 * remaining[0]

    def test_right_inputs_need_no_compensation(self, depthwise: bool) -> None:
        exact, (target, _) = inputs(depthwise), weights()
        np.testing.assert_allclose(compensated_weights(target, Moments.of(exact, exact)), target, atol=1e-6)


@pytest.mark.parametrize("depthwise", [False, True], ids=["one-for-all", "depthwise"])
def test_moments_are_covariances(depthwise: bool) -> None:
    x, y = inputs(depthwise, 0), inputs(depthwise, 1)
    moments = Moments.of(x, y)
    for channel in range(CHANNELS if depthwise else 1):
        a, b = (v[channel] if depthwise else v for v in (x.astype(np.float64), y.astype(np.float64)))
        both = np.cov(a.T, b.T, bias=True)
        integer, cross = (m[channel] if depthwise else m for m in (moments.integer, moments.cross))
        np.testing.assert_allclose(integer, both[ENTRIES:, ENTRIES:], atol=1e-3)
        np.testing.assert_allclose(cross, both[:ENTRIES, ENTRIES:], atol=1e-3)
