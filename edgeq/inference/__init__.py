"""Classify images with a model, on this host or on devices."""

from __future__ import annotations

from edgeq.inference.classify import classify, classify_all

__all__ = ["classify", "classify_all"]
