"""Round weights with GPTQ, optionally with compensation for the errors of earlier layers.

Rounding each weight to the nearest integer minimizes the error of each weight, not the error of the layer's outputs.
GPTQ (arXiv 2210.17323) rounds the weights one input at a time. After each step it adjusts the weights that are not yet
rounded, so that they compensate for the rounding error; the second moments of the layer's inputs determine how.

Error compensation replaces the float weights that GPTQ rounds. A layer's integer inputs carry the errors of all integer
layers before it, and a linear layer can undo a part of them. The compensated weights are those whose outputs on the
integer inputs come closest to the float layer's outputs on the float inputs: a ridge regression, whose penalty on the
distance from the float weights prevents overfitting to few images. QEP (arXiv 2504.09629) and GPTAQ (arXiv 2504.02692)
do this for language models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from edgeq.threads import run_in_order

__all__ = ["Feedback", "Moments", "compensated_weights", "round_weights"]

Floats = npt.NDArray[np.float32]

_DAMPING = 0.01
"""Damping: this multiple of the inputs' mean variance is added to each variance, because inputs may be constant.

The value is GPTQ's own."""

_RIDGE = 10.0
"""Ridge penalty of error compensation, as a multiple of the inputs' mean variance.

Chosen on photos that are used only to choose between methods (docs/decisions.md)."""

_BLOCK = 64  # inputs that are rounded before the remaining weights are updated, which saves memory traffic


@dataclass(frozen=True)
class Moments:
    """Second central moments of a layer's input patches.

    There is one matrix for all output channels. A depthwise layer has one per channel, because each channel has its own
    input.

    Attributes:
        integer: covariance of the integer model's inputs (as real numbers), ([channels,] entries, entries) float32.
        cross: covariance of the float model's inputs with the integer model's, of the same shape.
    """

    integer: Floats
    cross: Floats

    @classmethod
    def of(cls, reference: Floats, candidate: Floats, threads: int = 1) -> Moments:
        """Compute the moments from patches of both models.

        Args:
            reference: the float model's patches, ([channels,] samples, entries).
            candidate: the integer model's patches at the same positions, of the same shape.
            threads: number of threads to use.
        """
        x, y = (patches - patches.mean(axis=-2, keepdims=True) for patches in (reference, candidate))
        transposed = y.swapaxes(-1, -2)

        def covariance(other: Floats) -> Floats:
            product = transposed @ other  # with itself, NumPy computes only half of the result
            product /= np.float32(y.shape[-2])
            return np.asarray(product)

        integer, cross = run_in_order(covariance, (y, x), threads)
        return cls(integer, cross.swapaxes(-1, -2))


def compensated_weights(weights: Floats, moments: Moments, ridge: float = _RIDGE) -> Floats:
    """Change float weights so that they compensate for the errors of the integer inputs.

    Args:
        weights: the float layer's weights, (channels, entries).
        moments: moments of the layer's inputs.
        ridge: penalty on the distance from `weights`, as a multiple of the inputs' mean variance.

    Returns:
        The compensated weights, (channels, entries) float32.
    """
    one_for_all = moments.integer.ndim == 2
    rows = weights if one_for_all else weights[:, np.newaxis]
    wanted = rows @ (moments.cross - moments.integer)
    matrix = moments.integer.copy()
    _add_to_diagonal(matrix, ridge)
    change = np.linalg.solve(matrix, wanted.swapaxes(-1, -2)).swapaxes(-1, -2)  # the matrix is symmetric
    return np.asarray(weights + (change if one_for_all else change[:, 0]), np.float32)


@dataclass(frozen=True)
class Feedback:
    """In which order GPTQ rounds the weights of a layer, and how later ones compensate for the errors of earlier ones.

    Attributes:
        order: the inputs in the order of rounding, ([channels,] entries).
        shares: how the error of each weight is distributed over the weights after it, ([channels,] entries, entries)
            float32, upper triangular with ones on the diagonal.
    """

    order: npt.NDArray[np.int64]
    shares: Floats

    @classmethod
    def of(cls, moments: Moments) -> Feedback:
        """Compute the feedback from the moments of a layer's inputs."""
        matrix = moments.integer
        # Round the inputs that vary most first, while most weights can still compensate.
        order = np.argsort(-np.einsum("...kk->...k", matrix), axis=-1, kind="stable")
        if matrix.ndim == 2:
            matrix = matrix[np.ix_(order, order)]
        else:
            matrix = np.take_along_axis(matrix, order[:, :, np.newaxis], axis=1)
            matrix = np.take_along_axis(matrix, order[:, np.newaxis, :], axis=2)
        _add_to_diagonal(matrix, _DAMPING)
        upper = _upper_root_of_inverse(matrix)
        upper /= np.einsum("...kk->...k", upper)[..., np.newaxis].copy()
        return cls(order, upper)


def round_weights(target: Floats, scale: Floats, feedback: Feedback, low: int = -127, high: int = 127) -> Floats:
    """Round weights to integers with GPTQ, so that the layer's outputs change least.

    Args:
        target: the weights to round, (channels, entries), real numbers.
        scale: real units per integer step, (channels,).
        feedback: how errors are distributed.
        low: smallest integer allowed.
        high: largest integer allowed.

    Returns:
        The integer weights, (channels, entries), as float32.
    """
    steps, order = target / scale[:, np.newaxis], np.atleast_2d(feedback.order)
    rounded = _round_in_order(np.take_along_axis(steps, order, axis=1), feedback.shares, low, high)
    result = np.empty_like(rounded)
    np.put_along_axis(result, order, rounded, axis=1)
    return result


def _upper_root_of_inverse(matrix: Floats) -> Floats:
    """Return the upper triangular U with ``U.T @ U`` equal to the inverse of a positive definite matrix.

    U is computed from the Cholesky root of the matrix with rows and columns reversed. This is done in double precision:
    the moments of plain images are so close to singular that the inverse in single precision may not be positive
    definite.
    """
    lower = np.linalg.cholesky(matrix[..., ::-1, ::-1].astype(np.float64))
    _invert_lower(lower)
    return np.ascontiguousarray(lower[..., ::-1, ::-1], np.float32)


def _invert_lower(lower: npt.NDArray[np.float64]) -> None:
    """Invert lower triangular matrices, (..., size, size), in place by halves: a quarter of the work of `inv`."""
    half = lower.shape[-1] // 2
    if half < _BLOCK:
        lower[...] = np.linalg.inv(lower)
        return
    first, last, below = lower[..., :half, :half], lower[..., half:, half:], lower[..., half:, :half]
    _invert_lower(first)
    _invert_lower(last)
    below[...] = last @ -(below @ first)


def _round_in_order(steps: Floats, upper: Floats, low: int, high: int) -> Floats:
    """Round column by column, and let the columns to the right compensate for the errors.

    Args:
        steps: weights divided by their scale, (channels, entries).
        upper: one (entries, entries) upper triangular matrix with ones on its diagonal, or one per channel.
        low: smallest integer allowed.
        high: largest integer allowed.
    """
    entries = steps.shape[1]
    shared = upper.ndim == 2
    columns = np.ascontiguousarray(steps.T)  # (entries, channels): each step reads contiguous memory
    rounded = np.empty_like(columns)
    for start in range(0, entries, _BLOCK):
        stop = min(start + _BLOCK, entries)
        errors = np.empty((stop - start, columns.shape[1]), np.float32)
        for k in range(start, stop):
            rounded[k] = np.clip(np.rint(columns[k]), low, high)
            error = errors[k - start] = columns[k] - rounded[k]
            share = upper[k, k + 1 : stop, np.newaxis] if shared else upper[:, k, k + 1 : stop].T
            columns[k + 1 : stop] -= share * error
        if shared:
            columns[stop:] -= upper[start:stop, stop:].T @ errors
        else:
            columns[stop:] -= np.einsum("cbk,bc->kc", upper[:, start:stop, stop:], errors)
    return np.ascontiguousarray(rounded.T)


def _add_to_diagonal(moments: Floats, share: float) -> None:
    """Add `share` times the mean variance to each variance, in place."""
    variances = np.einsum("...kk->...k", moments)  # a view
    variances += np.asarray(share * variances.mean(axis=-1, keepdims=True) + np.float32(1e-8), np.float32)
