"""Where a model runs: in this process, in a worker process, or on a device.

One program, :mod:`edgeq.execution.worker`, loads, runs and times models outside of this process, on this machine and on
devices alike. This package imports nothing, because every worker process would pay for it.
"""

from __future__ import annotations

__all__: list[str] = []
