"""Split labelled photos by time, so that no evaluation photo was taken shortly before or after a training photo.

Frames of one moment resemble each other. If some were trained on and others evaluated, the accuracy would be too high.
Time is divided into blocks of 30 minutes since 1970. Evenly spread, a share of them is for evaluation. Photos in the
first or last 2 minutes of such a block are left out, if the block beside it is for training. So the side of a photo
depends only on its own time: photos that are collected later change nothing.
"""

from __future__ import annotations

from edgeq.errors import InputError
from edgeq.photo_folders import EVALUATION, LEFT_OUT, TRAINING

__all__ = ["BLOCK_S", "GAP_S", "check_share", "side_of"]

BLOCK_S = 1800
"""Length of a block in seconds."""

GAP_S = 120
"""Shortest time between an evaluation photo and a training photo, in seconds."""

_STEPS = 1000  # shares are rounded to this fraction


def check_share(share: float) -> None:
    """Raise an `InputError` if a share is not in [0, 1]."""
    if not 0 <= share <= 1:
        raise InputError(f"evaluation {share}: must be in 0..1")


def side_of(time: float, share: float) -> str:
    """Return the folder for a labelled photo: `EVALUATION`, `TRAINING` or `LEFT_OUT`.

    Args:
        time: when it was taken, in seconds since 1970.
        share: share of the blocks that is for evaluation, in [0, 1], with three digits.
    """
    block, since = divmod(time, BLOCK_S)
    if not _is_evaluation(int(block), share):
        return TRAINING
    near_before = since < GAP_S and not _is_evaluation(int(block) - 1, share)
    near_after = BLOCK_S - since <= GAP_S and not _is_evaluation(int(block) + 1, share)
    return LEFT_OUT if near_before or near_after else EVALUATION


def _is_evaluation(block: int, share: float) -> bool:
    steps = round(share * _STEPS)
    return (block + 1) * steps // _STEPS > block * steps // _STEPS
