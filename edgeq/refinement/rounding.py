"""Round weights with GPTQ on a layer's real inputs, with error compensation.

Rounding each weight to the nearest integer minimizes the error of each weight, not that of the layer's outputs. GPTQ
(arXiv 2210.17323) rounds the weights input by input and adjusts those not yet rounded to compensate for the error,
according to the second moments of the layer's inputs.

Error compensation changes the weights that GPTQ rounds. A layer's integer inputs carry the errors of all integer layers
before it, and a linear layer can undo a part of them. Its target weights are those whose outputs on the integer inputs
come closest to the float layer's outputs on the float inputs, by least squares with a ridge towards the float weights,
which keeps few images from overfitting. QEP (arXiv 2504.09629) and GPTAQ (arXiv 2504.02692) do so for language models.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

__all__ = ["Moments", "compensated_weights", "round_weights"]

Floats = npt.NDArray[np.float32]

_DAMPING = 0.01
"""Share of the mean variance that is added to every variance, GPTQ's own value: inputs may be constant."""

_RIDGE = 10.0
"""The same for error compensation. Chosen on photos used for nothing else; 3 to 100 do as well."""

_BLOCK = 64  # columns rounded before the rest is updated, which saves memory traffic


@dataclass(frozen=True)
class Moments:
    """Second central moments of a layer's input patches.

    One matrix for all output channels, or one per channel for a depthwise layer, whose channels have separate inputs.

    Attributes:
        integer: of the integer model's inputs (as real numbers), ([channels,] entries, entries).
        cross: of the float model's inputs with the integer model's, of the same shape.
    """

    integer: Floats
    cross: Floats

    @classmethod
    def of(cls, reference: Floats, candidate: Floats) -> Moments:
        """Compute them from patches of the same positions, ([channels,] rows, entries) each."""
        x = reference - reference.mean(axis=-2, keepdims=True)
        y = candidate - candidate.mean(axis=-2, keepdims=True)
        turned = y.swapaxes(-1, -2) / np.float32(y.shape[-2])
        return cls(turned @ y, (turned @ x).swapaxes(-1, -2))


def compensated_weights(weights: Floats, moments: Moments, ridge: float = _RIDGE) -> Floats:
    """Change float weights so that they compensate for the errors of the integer inputs.

    Args:
        weights: (channels, entries) of the float layer.
        moments: of the layer's inputs.
        ridge: weight of the distance from `weights`, as a multiple of the inputs' mean variance.

    Returns:
        (channels, entries) float32.
    """
    one_for_all = moments.integer.ndim == 2
    rows = weights if one_for_all else weights[:, np.newaxis]
    matrix = _with_diagonal(moments.integer, ridge)
    wanted = rows @ (moments.cross - moments.integer)
    change = np.linalg.solve(matrix, wanted.swapaxes(-1, -2)).swapaxes(-1, -2)  # the matrix is symmetric
    return np.asarray(weights + (change if one_for_all else change[:, 0]), np.float32)


def round_weights(target: Floats, scale: Floats, moments: Moments, low: int = -127, high: int = 127) -> Floats:
    """Round weights to integers with GPTQ, so that the layer's outputs change least.

    Args:
        target: (channels, entries) real weights.
        scale: (channels,) real units per integer step.
        moments: of the layer's inputs.
        low: smallest integer.
        high: largest integer.

    Returns:
        (channels, entries) float32 integers.
    """
    matrix = _with_diagonal(moments.integer, _DAMPING)
    # Inputs that vary most are rounded first, while most weights are left to compensate.
    order = np.argsort(-np.einsum("...kk->...k", matrix), axis=-1, kind="stable")
    steps = target / scale[:, np.newaxis]
    if matrix.ndim == 2:
        matrix, steps = matrix[np.ix_(order, order)], steps[:, order]
    else:
        matrix = np.take_along_axis(
            np.take_along_axis(matrix, order[:, :, np.newaxis], axis=1), order[:, np.newaxis, :], axis=2
        )
        steps = np.take_along_axis(steps, order, axis=1)
    upper = _upper_root_of_inverse(matrix)
    # Its rows say how the error of one weight is distributed over those that follow.
    upper = upper / np.einsum("...kk->...k", upper)[..., np.newaxis]
    rounded = _round_in_order(steps, np.ascontiguousarray(upper, np.float32), low, high)
    result = np.empty_like(rounded)
    if matrix.ndim == 2:
        result[:, order] = rounded
    else:
        np.put_along_axis(result, order, rounded, axis=1)
    return result


def _upper_root_of_inverse(matrix: Floats) -> Floats:
    """Upper triangular U with ``U.T @ U`` the inverse of a positive definite matrix.

    Computed from the root of the matrix with rows and columns reversed, in double precision: the moments of flat
    pictures are so nearly singular that in single precision the inverse may not be positive definite.
    """
    lower = np.linalg.cholesky(matrix[..., ::-1, ::-1].astype(np.float64))
    return np.asarray(np.linalg.inv(lower)[..., ::-1, ::-1], np.float32)


def _round_in_order(steps: Floats, upper: Floats, low: int, high: int) -> Floats:
    """Round column by column; `upper` has ones on its diagonal and is one matrix, or one per row of `steps`."""
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


def _with_diagonal(moments: Floats, share: float) -> Floats:
    """Add a share of the mean variance to each variance."""
    size = moments.shape[-1]
    mean = np.einsum("...kk->...", moments) / size
    added = np.asarray(share * mean + np.float32(1e-8), np.float32)[..., np.newaxis, np.newaxis]
    return moments + added * np.eye(size, dtype=np.float32)
