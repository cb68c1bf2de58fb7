"""Run independent tasks, here or on a Dask cluster, and take their results as they come.

A task is a function from JSON data to JSON data at the top level of one of edgeq's modules.
"""

from __future__ import annotations

from edgeq.cluster.opening import open_runner
from edgeq.cluster.runner import LocalRunner, Runner

__all__ = ["LocalRunner", "Runner", "open_runner"]
