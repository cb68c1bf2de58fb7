"""Showing what a comparison found."""

from __future__ import annotations

from edgeq.report.terminal import comparison_lines, refinement_line, size

__all__ = ["comparison_lines", "refinement_line", "size"]
