"""Run the tasks of a sweep in worker processes.

A task is a function of :mod:`edgeq.sweeping.tasks`. Its arguments and its result are JSON data, and all else that it
reads or writes are files of the sweep's folder. So tasks can run in any process that sees this folder.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from typing import Any

from edgeq.errors import EdgeqError, WorkerDiedError
from edgeq.execution.process import Closing, WorkerProcess

__all__ = ["OutOfTimeError", "TaskFailedError", "TaskRunner"]

_TICK_S = 0.25
_LARGEST_RSS = 3_000_000_000  # bytes; TensorFlow keeps memory for each network that a process builds


class OutOfTimeError(EdgeqError):
    """A task was ended because its time was over. What it had saved remains."""


class TaskFailedError(EdgeqError):
    """A task failed because of the cell that it worked on; other cells may succeed."""


class TaskRunner(Closing):
    """Runs tasks one by one: those that need TensorFlow in one process, the others in another."""

    def __init__(self, tick: Callable[[], None]) -> None:
        """Remember what to do while a task runs.

        Args:
            tick: called several times per second while a task runs.
        """
        self._tick = tick
        self._workers: dict[bool, WorkerProcess] = {}

    def run(self, task: str, seconds: float | None = None, tensorflow: bool = True, **arguments: Any) -> dict[str, Any]:
        """Run a task and wait for its result.

        Args:
            task: name of a function in :mod:`edgeq.sweeping.tasks`.
            seconds: time after which the task's process is ended; None for no limit.
            tensorflow: whether the task imports TensorFlow.
            arguments: the task's arguments, as JSON data.

        Raises:
            OutOfTimeError: the time was over.
            TaskFailedError: the task failed because of the cell that it worked on, or its process died.
            EdgeqError: the task failed for another reason, such as a full disk.
        """
        worker = self._workers.get(tensorflow)
        if worker is None or not worker.alive:
            worker = self._workers[tensorflow] = WorkerProcess(f"{task}: its process")
        end = None if seconds is None else time.monotonic() + seconds
        ended = False
        with ThreadPoolExecutor(1) as pool:
            request = {"function": f"edgeq.sweeping.tasks:{task}", "arguments": arguments}
            pending = pool.submit(worker.ask, "call", **request)  # type: ignore[arg-type]
            try:
                while not pending.done():
                    self._tick()
                    if end is not None and time.monotonic() > end:
                        ended = True
                        worker.kill()
                    try:
                        pending.exception(timeout=_TICK_S)
                    except NotYet:
                        continue
            except BaseException:
                worker.kill()  # the thread of the pool gets an error, and ends
                raise
        try:
            answer: dict[str, Any] = pending.result()[0]["result"]
        except WorkerDiedError as error:
            if ended:
                raise OutOfTimeError(f"{task}: its time was over") from None
            raise TaskFailedError(str(error)) from None
        if answer.pop("peak_rss_bytes") > _LARGEST_RSS:
            worker.close()
        if "failed" in answer:
            raise TaskFailedError(answer["failed"])
        return answer

    def close(self) -> None:
        """End the processes."""
        for worker in self._workers.values():
            worker.close()
