"""Showing what was found: comparisons as text or a page, models, benchmarks."""

from __future__ import annotations

__all__: list[str] = []
