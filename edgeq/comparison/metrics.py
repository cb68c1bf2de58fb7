"""The measures of a comparison, as pure functions of probabilities and counts."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "PROBABILITY_FLOOR",
    "kl_divergence",
    "l1_distance",
    "mcnemar_p",
    "paired_difference_interval",
    "shared_top1",
    "sqnr_db",
    "top_k_credit",
    "top_set",
    "wilson_interval",
]

PROBABILITY_FLOOR = 1e-6
"""Lower limit of the candidate's probabilities in the KL divergence: an INT8 softmax may output 0."""

_Z95 = 1.959963984540054  # 97.5 % point of the normal distribution

Vector = npt.NDArray[np.float64]


def kl_divergence(reference: Vector, candidate: Vector) -> float:
    """Compute the generalized Kullback-Leibler divergence of `candidate` from `reference` in nats.

    The generalized form, sum(p log(p/q) - p + q), is never negative even if the probabilities do not quite sum to 1, as
    those of an INT8 model.

    Args:
        reference: probabilities p, (classes,).
        candidate: probabilities q, (classes,); floored at `PROBABILITY_FLOOR`.
    """
    floored = np.maximum(candidate, PROBABILITY_FLOOR)
    seen = reference > 0
    log_ratio = np.log(reference[seen] / floored[seen])
    return float(np.sum(reference[seen] * log_ratio) - reference.sum() + floored.sum())


def l1_distance(reference: Vector, candidate: Vector) -> float:
    """Compute the sum of absolute differences of two (classes,) vectors; in 0..2 for probabilities."""
    return float(np.abs(reference - candidate).sum())


def sqnr_db(signal_power: float, noise_power: float) -> float:
    """Compute the signal-to-quantization-noise ratio in decibels; infinite if there is no noise."""
    if noise_power == 0:
        return math.inf
    return 10 * math.log10(signal_power / noise_power) if signal_power > 0 else -math.inf


def top_set(scores: Vector) -> npt.NDArray[np.int64]:
    """Return the indices of the classes with the highest score: one, or several that tie."""
    return np.flatnonzero(scores == scores.max())


def shared_top1(first: npt.NDArray[Any], second: npt.NDArray[Any]) -> float:
    """Return the probability that two models agree on the top-1 class if each breaks its ties at random.

    Args:
        first: one model's :func:`top_set`.
        second: the other model's :func:`top_set`.
    """
    return float(np.intersect1d(first, second).size / (first.size * second.size))


def top_k_credit(scores: Vector, label: int, k: int) -> float:
    """Return the probability that class `label` is among the `k` highest scores if ties are broken at random."""
    above = int(np.sum(scores > scores[label]))
    tied = int(np.sum(scores == scores[label]))
    return min(max(k - above, 0) / tied, 1.0)


def wilson_interval(successes: float, count: int) -> tuple[float, float]:
    """Compute Wilson's 95 % score interval of a proportion (Wilson 1927). With ties, `successes` may be a fraction."""
    share, z2 = successes / count, _Z95**2
    centre = (share + z2 / (2 * count)) / (1 + z2 / count)
    half = _Z95 / (1 + z2 / count) * math.sqrt(share * (1 - share) / count + z2 / (4 * count**2))
    return max(0.0, centre - half), min(1.0, centre + half)


def paired_difference_interval(only_first: float, only_second: float, count: int) -> tuple[float, float]:
    """Compute the 95 % interval of the difference of two accuracies on the same images (Agresti and Min 2005).

    Args:
        only_first: number of images that only the first model classifies correctly.
        only_second: number of images that only the second model classifies correctly.
        count: number of all images.

    Returns:
        Lower and upper bound of the first accuracy minus the second: Wald's interval after adding half an image to each
        of the four cells.
    """
    first, second, total = only_first + 0.5, only_second + 0.5, count + 2
    difference = (first - second) / total
    half = _Z95 * math.sqrt(first + second - (first - second) ** 2 / total) / total
    return max(-1.0, difference - half), min(1.0, difference + half)


def mcnemar_p(only_first: float, only_second: float) -> float:
    """Compute the p-value of the two-sided exact McNemar test of equal accuracies.

    Args:
        only_first: number of images that only the first model classifies correctly; with ties, a fraction, which is
            rounded.
        only_second: number of images that only the second model classifies correctly; likewise.
    """
    fewer, more = sorted((round(only_first), round(only_second)))
    discordant = fewer + more
    if discordant == 0:
        return 1.0
    tail = float(sum(math.comb(discordant, k) for k in range(fewer + 1)) / 2**discordant)
    return min(1.0, 2 * tail)
