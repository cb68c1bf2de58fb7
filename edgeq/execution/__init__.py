"""Where a model runs: in this process, in a worker process, or on a device."""

from __future__ import annotations

__all__: list[str] = []
