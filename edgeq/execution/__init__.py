"""Execution backends: run a model in this process, in a worker process, or on a device.

One program, :mod:`edgeq.execution.worker`, loads, runs and times models outside this process, both on this machine and
on devices. This file imports nothing, because each import would slow down the start of every worker process.
"""

from __future__ import annotations

__all__: list[str] = []
