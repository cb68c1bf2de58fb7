"""Use devices over SSH: connection, set-up, packages, and the agent that runs on the device."""

from __future__ import annotations

__all__: list[str] = []
