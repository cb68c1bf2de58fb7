"""Choose what runs tasks."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from edgeq.cluster.runner import LocalRunner, Runner
from edgeq.errors import EdgeqError

__all__ = ["open_runner"]


def open_runner(scheduler: str | None, runtime: str | None = None, files: Mapping[str, Path] | None = None) -> Runner:
    """Connect to a cluster, or return the runner for this process.

    Args:
        scheduler: address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``; None for this process.
        runtime: the TFLite runtime that the tasks use. Workers must have the same version of it as this process.
        files: files that the tasks need, by their SHA-256 digests; see `edgeq.cluster.worker_run`.

    Raises:
        EdgeqError: Dask is not installed, no scheduler answers, it has no workers, or one of them has other versions.
    """
    if scheduler is None:
        return LocalRunner()
    try:
        from edgeq.cluster.dask_runner import DaskRunner  # imported here: few installations have Dask
    except ModuleNotFoundError as error:
        raise EdgeqError(
            f"--scheduler needs Dask ({error.name} is missing); install it with: pip install 'edgeq[cluster]'"
        ) from None
    return DaskRunner(scheduler, runtime, files or {})
