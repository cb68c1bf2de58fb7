"""Weight rounding against a layer's real inputs: GPTQ.

Rounding every weight to the nearest integer is best for each weight and not for their sum. GPTQ (arXiv
2210.17323) rounds one input after the other and lets the weights that are still free make up for the error,
as the second moments of the layer's inputs tell how.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

__all__ = ["round_weights", "second_moments"]

Floats = npt.NDArray[np.float32]

_DAMPING = 0.01
"""Of the second moments' mean, added to their diagonal (GPTQ's own): inputs that never vary stay harmless."""

_BLOCK = 64  # columns rounded before the rest hears of their error, which saves memory traffic


def second_moments(patches: Floats) -> Floats:
    """Second central moments of a layer's inputs.

    Args:
        patches: ([channels,] rows, entries); a depthwise layer's channels see inputs of their own.

    Returns:
        ([channels,] entries, entries).
    """
    centred = patches - patches.mean(axis=-2, keepdims=True)
    return np.asarray((centred.swapaxes(-1, -2) / np.float32(centred.shape[-2])) @ centred, np.float32)


def round_weights(target: Floats, scale: Floats, moments: Floats, low: int = -127, high: int = 127) -> Floats:
    """Round weights to integers so that the layer's outputs change least.

    Args:
        target: (channels, entries) real weights.
        scale: (channels,) real units per integer step.
        moments: of the layer's inputs, as `second_moments` has them.
        low: smallest integer.
        high: largest integer.

    Returns:
        (channels, entries) float32 integers.
    """
    matrix = _with_diagonal(moments, _DAMPING)
    # Inputs that vary most are rounded first, while there are most weights left to make up for it.
    order = np.argsort(-np.einsum("...kk->...k", matrix), axis=-1, kind="stable")
    steps = target / scale[:, np.newaxis]
    if matrix.ndim == 2:
        matrix, steps = matrix[np.ix_(order, order)], steps[:, order]
    else:
        matrix = np.take_along_axis(
            np.take_along_axis(matrix, order[:, :, np.newaxis], axis=1), order[:, np.newaxis, :], axis=2
        )
        steps = np.take_along_axis(steps, order, axis=1)
    # The rows of this upper triangle say how the error of one weight is shared out among those that follow.
    upper = np.linalg.cholesky(np.linalg.inv(matrix)).swapaxes(-1, -2)
    upper = upper / np.einsum("...kk->...k", upper)[..., np.newaxis]
    rounded = _round_in_order(steps, np.ascontiguousarray(upper, np.float32), low, high)
    result = np.empty_like(rounded)
    if matrix.ndim == 2:
        result[:, order] = rounded
    else:
        np.put_along_axis(result, order, rounded, axis=1)
    return result


def _round_in_order(steps: Floats, upper: Floats, low: int, high: int) -> Floats:
    """Round column after column; `upper` has ones on its diagonal, one for all rows or one a row."""
    entries = steps.shape[1]
    shared = upper.ndim == 2
    columns = np.ascontiguousarray(steps.T)  # (entries, channels), so that each step is one run of memory
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
    """Moments with a share of their mean variance added to each variance."""
    size = moments.shape[-1]
    mean = np.einsum("...kk->...", moments) / size
    added = np.asarray(share * mean + np.float32(1e-8), np.float32)[..., np.newaxis, np.newaxis]
    return moments + added * np.eye(size, dtype=np.float32)
