"""Other machines: what they need to run models, and talking to them."""

from __future__ import annotations

__all__: list[str] = []
