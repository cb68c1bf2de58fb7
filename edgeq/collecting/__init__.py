"""Kept photos: a folder of them that stays within limits, and their collection for training and evaluation."""

from __future__ import annotations

from edgeq.collecting.collect import Collection, collect

__all__ = ["Collection", "collect"]
