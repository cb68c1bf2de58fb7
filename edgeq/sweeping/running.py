"""Run the tasks of a sweep in worker processes.

A task is a function of :mod:`edgeq.sweeping.tasks`. Its arguments and its result are JSON data, and all else that it
reads or writes are files of the sweep's folder. So tasks can run in any process that sees this folder: in worker
processes here, or in those of the workers of a Dask cluster.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as NotYet
from pathlib import Path
from typing import Any, TypeVar

from edgeq.closing import Closing
from edgeq.cluster import Runner, open_runner
from edgeq.cluster.worker_run import at_end_of_run
from edgeq.errors import EdgeqError, WorkerDiedError
from edgeq.execution.process import WorkerProcess

__all__ = ["OutOfTimeError", "TaskFailedError", "TaskRunner", "run_task"]

_Answer = TypeVar("_Answer")

_TICK_S = 0.25
_LARGEST_RSS = 3_000_000_000  # bytes; TensorFlow keeps memory for each network that a process builds


class OutOfTimeError(EdgeqError):
    """A task was ended because its time was over. What it had saved remains."""


class TaskFailedError(EdgeqError):
    """A task failed because of the cell that it worked on; other cells may succeed."""


class TaskRunner(Closing):
    """Runs tasks: here one by one, those that need TensorFlow in one process and the others in another.

    On a cluster, tasks of several threads run at the same time.

    Attributes:
        parallel: number of tasks that can run at the same time.
    """

    def __init__(
        self, tick: Callable[[], None], scheduler: str | None = None, working_folder: str | None = None
    ) -> None:
        """Remember what to do while a task runs, and connect to the cluster.

        Args:
            tick: called several times per second while a task runs.
            scheduler: address of a Dask scheduler; None to run tasks here.
            working_folder: the folder that relative paths in arguments start from; None for that of this process.

        Raises:
            EdgeqError: the cluster cannot be used.
        """
        self._tick, self._folder, self._lock = tick, working_folder, threading.Lock()
        self._workers: dict[bool, WorkerProcess] = {}
        self._cluster = open_runner(scheduler) if scheduler else None
        self.parallel = self._cluster.parallel if self._cluster else 1

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
        if self._cluster:
            return self._run_there(self._cluster, task, seconds, tensorflow, arguments)
        worker = self._workers.get(tensorflow)
        if worker is None or not worker.alive:
            worker = self._workers[tensorflow] = WorkerProcess(f"{task}: its process", folder=self._folder)
        ended = threading.Event()

        def end() -> None:
            ended.set()
            worker.kill()

        request = {"function": f"edgeq.sweeping.tasks:{task}", "arguments": arguments}
        try:
            answer: dict[str, Any] = self._wait(lambda: worker.ask("call", **request), seconds, end)[0]["result"]  # type: ignore[arg-type]
        except WorkerDiedError as error:
            if ended.is_set():
                raise OutOfTimeError(f"{task}: its time was over") from None
            raise TaskFailedError(str(error)) from None
        if answer.pop("peak_rss_bytes") > _LARGEST_RSS:
            worker.close()
        if "failed" in answer:
            raise TaskFailedError(answer["failed"])
        return answer

    def _run_there(
        self, cluster: Runner, task: str, seconds: float | None, tensorflow: bool, arguments: dict[str, Any]
    ) -> dict[str, Any]:
        """Run a task on the cluster, whose worker ends it when its time is over."""
        request = {
            "task": task,
            "seconds": seconds,
            "tensorflow": tensorflow,
            "folder": str(Path.cwd()),
            "arguments": arguments,
        }
        ((_, answer),) = self._wait(lambda: list(cluster.run(run_task, [(0, request)])), None, cluster.close)
        if "out_of_time" in answer:
            raise OutOfTimeError(answer["out_of_time"])
        if "failed" in answer:
            raise TaskFailedError(answer["failed"])
        return answer

    def _wait(self, call: Callable[[], _Answer], seconds: float | None, end: Callable[[], None]) -> _Answer:
        """Call a function in a thread, and tick until it is done; call `end` after some seconds or an interruption."""
        deadline = None if seconds is None else time.monotonic() + seconds
        with ThreadPoolExecutor(1) as pool:
            pending = pool.submit(call)
            try:
                while not pending.done():
                    with self._lock:
                        self._tick()
                    if deadline is not None and time.monotonic() > deadline:
                        end()
                    try:
                        pending.exception(timeout=_TICK_S)
                    except NotYet:
                        continue
            except BaseException:
                end()  # the thread of the pool gets an error, and ends
                raise
        return pending.result()

    def kill(self) -> None:
        """End the processes without waiting for them; may be called while another thread runs a task."""
        for worker in list(self._workers.values()):
            worker.kill()

    def close(self) -> None:
        """End the processes, and release the cluster."""
        for worker in self._workers.values():
            worker.close()
        if self._cluster:
            self._cluster.close()


_of_thread = threading.local()


def run_task(
    task: str, seconds: float | None, tensorflow: bool, folder: str, arguments: dict[str, Any]
) -> dict[str, Any]:
    """Run a task in worker processes of the calling thread; this is what a sweep runs on the workers of a cluster.

    Args:
        task: name of a function in :mod:`edgeq.sweeping.tasks`.
        seconds: time after which the task's process is ended; None for no limit.
        tensorflow: whether the task imports TensorFlow.
        folder: the folder that relative paths in the arguments start from.
        arguments: the task's arguments, as JSON data.

    Returns:
        The task's result; or ``out_of_time`` or ``failed``, with the message of the error.
    """
    runners = _of_thread.__dict__.setdefault("runners", {})
    runner: TaskRunner = runners.setdefault(folder, TaskRunner(lambda: None, working_folder=folder))
    at_end_of_run(runner.kill)
    try:
        return runner.run(task, seconds, tensorflow, **arguments)
    except OutOfTimeError as error:
        return {"out_of_time": str(error)}
    except TaskFailedError as error:
        return {"failed": str(error)}
