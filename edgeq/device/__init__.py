"""Boards over SSH: connection, setup, packages, and the agent that runs on them."""

from __future__ import annotations

__all__: list[str] = []
