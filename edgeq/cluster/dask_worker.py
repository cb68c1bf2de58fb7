"""What edgeq runs on the workers of a Dask cluster."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from distributed import Worker, WorkerPlugin, get_worker

from edgeq.cluster.versions import differences, versions_here
from edgeq.cluster.worker_run import end_run, file_name, of_run
from edgeq.errors import EdgeqError

__all__ = ["StoredFiles", "call_task"]


class StoredFiles(WorkerPlugin):  # type: ignore[misc]
    """Writes the files of a run into the folder of each worker, which gets them once: now, or when it joins."""

    def __init__(self, run: str, files: Mapping[str, bytes]) -> None:
        """Take the files.

        Args:
            run: a unique name of the run.
            files: each file's bytes by its SHA-256 digest.
        """
        self.name, self._run, self._files = f"edgeq-files-{run}", run, dict(files)

    def setup(self, worker: Worker) -> None:
        """Write the files."""
        folder = _folder(worker, self._run)
        folder.mkdir(exist_ok=True)
        for digest, content in self._files.items():
            (folder / file_name(digest)).write_bytes(content)

    def teardown(self, worker: Worker) -> None:
        """Delete the files, and release what the tasks of the run have left in memory."""
        end_run(_folder(worker, self._run))
        shutil.rmtree(_folder(worker, self._run), ignore_errors=True)


def call_task(
    task: str, arguments: Mapping[str, Any], run: str, runtime: str | None, versions: dict[str, str]
) -> dict[str, Any]:
    """Call a task on this worker.

    Args:
        task: the function, as ``module:name``.
        arguments: its arguments, JSON data.
        run: the unique name of the run.
        runtime: the TFLite runtime that the task uses, or None.
        versions: the versions that this worker must have, because it may have joined after the others were checked.

    Returns:
        ``result``; or ``error``, the message of an `EdgeqError`, which another attempt would not change.
    """
    worker = get_worker()
    wrong = differences(worker.address, versions_here(runtime), versions)
    if wrong:
        return {"error": wrong}
    module, _, name = task.partition(":")
    try:
        with of_run(_folder(worker, run)):
            return {"result": getattr(importlib.import_module(module), name)(**arguments)}
    except EdgeqError as error:
        return {"error": str(error)}


def _folder(worker: Worker, run: str) -> Path:
    return Path(worker.local_directory, f"edgeq-{run}")
