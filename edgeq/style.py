"""The colors and the type of every page that edgeq makes, light and dark."""

from __future__ import annotations

from pathlib import Path

__all__ = ["base_style"]


def base_style() -> str:
    """Return the style sheet that all pages start with."""
    return Path(__file__).with_name("style.css").read_text(encoding="utf-8")
