"""Run tasks on the workers of a Dask cluster. Queueing, retries, lost workers and memory limits are Dask's."""

from __future__ import annotations

import contextlib
import itertools
import logging
import queue
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from distributed import Client, Future, WorkerPlugin
from distributed.scheduler import KilledWorker

from edgeq.cluster.dask_worker import StoredFiles, call_task
from edgeq.cluster.runner import Runner, Task
from edgeq.cluster.versions import differences, version_reader, versions_here
from edgeq.errors import EdgeqError, one_line

__all__ = ["DaskRunner"]

_CONNECT_S = 10
_WORKERS_S = 30  # for the first worker to join, or another one after all were lost
_RETRIES = 2  # of a task whose data could not be read
_AHEAD = 4  # tasks per thread of the workers that the scheduler knows: few, so that its memory does not grow
_COUNT_EVERY_S = 1.0


class DaskRunner(Runner):
    """Runs tasks on the workers of a Dask cluster, one task per thread of a worker."""

    def __init__(self, scheduler: str, runtime: str | None, files: Mapping[str, Path]) -> None:
        """Connect, check every worker's versions, and send the files; for the arguments see `open_runner`."""
        self._scheduler, self._runtime = scheduler, runtime
        self._run, self._plugin = uuid.uuid4().hex[:12], ""
        self._expected, self._keys = versions_here(runtime), itertools.count()
        self._counted, self._threads = float("-inf"), 0
        self._submitted: set[Future[Any]] = set()  # those whose results were not taken yet
        for name in ("distributed.client", "distributed.core", "distributed.comm"):
            logging.getLogger(name).setLevel(logging.CRITICAL)  # they would print tracebacks of what is reported here
        try:
            self._client = Client(scheduler, timeout=_CONNECT_S, set_as_default=False, name="edgeq")
        except ValueError as error:
            raise EdgeqError(
                f"{scheduler}: not the address of a Dask scheduler ({one_line(error)}); give one such as "
                "tcp://10.0.0.5:8786"
            ) from None
        except OSError as error:  # also of a timeout
            raise EdgeqError(
                f"{scheduler}: no Dask scheduler answers ({one_line(error)}); start one with: dask scheduler"
            ) from None
        try:
            self._check_workers()
            self._send(StoredFiles(self._run, {digest: path.read_bytes() for digest, path in files.items()}))
        except BaseException:
            self.close()
            raise

    def run(self, task: Task, calls: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Runner.run`."""
        done: queue.SimpleQueue[Future[Any]] = queue.SimpleQueue()
        numbers: dict[Future[Any], int] = {}
        waiting, results = iter(calls), list[tuple[int, dict[str, Any]]]()
        try:
            while True:
                while len(numbers) < self._room() and (call := next(waiting, None)) is not None:
                    future = self._submit(task, call[1])
                    numbers[future] = call[0]
                    self._submitted.add(future)
                    future.add_done_callback(done.put)
                yield from results  # only now, so that the workers have their next tasks
                if not numbers:
                    return
                batch = self._next(done)
                answers = self._answers(batch)
                results = [
                    (numbers.pop(future), self._result(answers[future])) for future in batch if future in answers
                ]
                self._submitted.difference_update(answers)
                for future in batch:
                    if future not in answers:
                        future.add_done_callback(done.put)
        finally:
            self._submitted.difference_update(numbers)
            self._client.cancel(list(numbers))

    @property
    def parallel(self) -> int:
        """See :attr:`Runner.parallel`."""
        threads: dict[str, int] = self._client.nthreads()
        return max(1, sum(threads.values()))

    def close(self) -> None:
        """See :meth:`Runner.close`."""
        try:
            if self._plugin and self._client.status == "running":
                # First, so that what the end of the run does to a task is not taken for its result.
                self._client.cancel(list(self._submitted))
                self._client.unregister_worker_plugin(self._plugin)
        except Exception as error:  # the cluster may be gone, which does not change the result
            logging.getLogger(__name__).info("%s: %s", self._scheduler, error)
        finally:
            self._client.close()

    def _submit(self, task: Task, arguments: Mapping[str, Any]) -> Future[Any]:
        return self._client.submit(
            call_task,
            f"{task.__module__}:{task.__name__}",
            arguments,
            self._run,
            self._runtime,
            self._expected,
            key=(f"{task.__name__}-{self._run}", next(self._keys)),  # one group, so that the scheduler queues it
            retries=_RETRIES,
            pure=False,
        )

    def _answers(self, batch: list[Future[Any]]) -> dict[Future[Any], dict[str, Any]]:
        """Fetch what tasks returned; not of those whose result was lost with a worker, which Dask runs again."""
        for future in batch:
            if future.status == "error":
                self._fail(future.exception())
            if future.status == "cancelled":
                raise EdgeqError(f"{self._scheduler}: the connection to the scheduler was lost")
        finished = [future for future in batch if future.status == "finished"]
        found: dict[Future[Any], dict[str, Any]] = {}
        with contextlib.suppress(TimeoutError):
            answers = self._client.sync(self._gather, finished, callback_timeout=_WORKERS_S)
            found = dict(zip(finished, answers, strict=True))
        return found

    async def _gather(self, futures: list[Future[Any]]) -> list[dict[str, Any]]:
        answers: list[dict[str, Any]] = await self._client.gather(futures, asynchronous=True)
        return answers

    def _result(self, answer: dict[str, Any]) -> dict[str, Any]:
        if "error" in answer:
            raise EdgeqError(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def _fail(self, error: BaseException) -> NoReturn:
        """Raise the error of a task."""
        if isinstance(error, KilledWorker):
            raise EdgeqError(
                f"{self._scheduler}: {error.allowed_failures + 1} workers ended while they ran the same part, which "
                "most often means that memory ran out; the workers' logs say more"
            )
        if isinstance(error, OSError):
            raise EdgeqError(f"{self._scheduler}: {one_line(error)}")
        if isinstance(error, ModuleNotFoundError):  # a worker that joined after the others were checked
            raise EdgeqError(f"{self._scheduler}: a worker has no {error.name}; install edgeq[cluster] on every worker")
        raise error

    def _next(self, done: queue.SimpleQueue[Future[Any]]) -> list[Future[Any]]:
        """Wait for futures that are done; raise an error if the cluster has had no worker for a while."""
        while True:
            try:
                batch = [done.get(timeout=_WORKERS_S)]
            except queue.Empty:
                if self._client.status != "running":
                    raise EdgeqError(f"{self._scheduler}: the connection to the scheduler was lost") from None
                self._wait_for_worker()
                continue
            with contextlib.suppress(queue.Empty):
                while True:
                    batch.append(done.get_nowait())
            return list(dict.fromkeys(batch))

    def _room(self) -> int:
        """Return how many tasks the scheduler should know."""
        if time.monotonic() - self._counted > _COUNT_EVERY_S:
            self._threads = sum(self._client.nthreads().values())
            self._counted = time.monotonic()
        return max(2, _AHEAD * self._threads)

    def _wait_for_worker(self) -> None:
        try:
            self._client.wait_for_workers(1, timeout=_WORKERS_S)
        except TimeoutError:
            raise EdgeqError(
                f"{self._scheduler}: has no workers; start some with: dask worker {self._scheduler} --nthreads 1"
            ) from None

    def _check_workers(self) -> None:
        self._wait_for_worker()
        found = self._client.run(version_reader(self._runtime), on_error="return")
        for address, versions in sorted(found.items()):
            if isinstance(versions, BaseException):
                raise EdgeqError(f"worker {address} failed ({one_line(versions)})")
            wrong = differences(address, versions, self._expected)
            if wrong:
                raise EdgeqError(wrong)

    def _send(self, plugin: WorkerPlugin) -> None:
        self._plugin = str(plugin.name)  # first: some workers may have the files even if another one fails
        try:
            self._client.register_plugin(plugin)
        except Exception as error:  # whatever the worker raised, such as for a full disk
            raise EdgeqError(f"{self._scheduler}: a worker cannot store the models ({one_line(error)})") from None
