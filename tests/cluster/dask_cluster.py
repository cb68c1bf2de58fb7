"""A real Dask cluster on this machine: a scheduler and workers, each in a separate process and folder."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_START_S = 60


class DaskCluster:
    """For ``with DaskCluster(folder, workers=2) as cluster``; ends all its processes.

    Attributes:
        folder: a folder for each process, with its log.
        address: the scheduler's address.
        scheduler: the scheduler process.
        workers: the worker processes, which no nanny restarts.
    """

    def __init__(self, folder: Path, workers: int, variables: dict[str, str] | None = None) -> None:
        self.folder, self._variables = folder, variables or {}
        self.scheduler, log = self._start("scheduler", ["--host", "127.0.0.1", "--port", "0", "--no-dashboard"])
        self.workers: list[subprocess.Popen[bytes]] = []
        try:
            self.address = _wait_for(log, r"Scheduler at:\s+(tcp://\S+)", self.scheduler)
            started = [self.add_worker(wait=False) for _ in range(workers)]
            for log in started:
                _wait_for(log, r"Registered to:\s+(tcp://\S+)", self.scheduler)
        except BaseException:
            self.__exit__()
            raise

    def add_worker(self, wait: bool = True, variables: dict[str, str] | None = None) -> Path:
        """Start another worker with one thread; return the file of its log."""
        options = [self.address, "--nthreads", "1", "--no-nanny", "--no-dashboard", "--memory-limit", "0"]
        process, log = self._start("worker", options, variables)
        self.workers.append(process)
        if wait:
            _wait_for(log, r"Registered to:\s+(tcp://\S+)", process)
        return log

    def kill_worker(self, number: int) -> None:
        """End a worker as a crash would."""
        self.workers[number].send_signal(signal.SIGKILL)
        self.workers[number].wait()

    def __enter__(self) -> DaskCluster:
        return self

    def __exit__(self, *error: object) -> None:
        for process in [*getattr(self, "workers", []), self.scheduler]:
            process.kill()
            process.wait()

    def _start(
        self, program: str, options: Sequence[str], variables: dict[str, str] | None = None
    ) -> tuple[subprocess.Popen[bytes], Path]:
        folder = self.folder / f"{program}-{len(getattr(self, 'workers', []))}"
        folder.mkdir(parents=True)
        log = folder / "log"
        with log.open("wb") as stream:
            process = subprocess.Popen(
                [sys.executable, "-m", "dask", program, *options],
                cwd=folder,
                env={**os.environ, "PYTHONPATH": str(ROOT), **self._variables, **(variables or {})},
                stdin=subprocess.DEVNULL,
                stdout=stream,
                stderr=stream,
            )
        return process, log


def _wait_for(log: Path, pattern: str, process: subprocess.Popen[bytes]) -> str:
    end = time.monotonic() + _START_S
    while time.monotonic() < end:
        if match := re.search(pattern, log.read_text(errors="replace")):
            return match[1]
        if process.poll() is not None:
            break
        time.sleep(0.05)
    raise AssertionError(f"the process did not start: {log.read_text(errors='replace')[-2000:]}")
