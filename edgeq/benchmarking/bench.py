"""Measuring: a process for each way to run each model, all of them in turns."""

from __future__ import annotations

import contextlib
import json
import statistics
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.benchmarking.machine import read_machine
from edgeq.benchmarking.result import Benchmark, Failure, Measurement
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.process import start_module
from edgeq.progress import Progress, no_progress
from edgeq.runtime import installed_runtimes, runtime_version

__all__ = ["Configuration", "bench", "configurations"]

_ROUNDS = 10
_KERNELS = ("default", "built-in")  # with XNNPACK where it applies, and without


@dataclass(frozen=True)
class Configuration:
    """A way to run a model.

    Attributes:
        model: the .tflite file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``.
        threads: that the interpreter may use.
        kernels: ``default``, or ``built-in`` without XNNPACK.
    """

    model: str
    runtime: str
    threads: int
    kernels: str = "default"


def configurations(
    models: Sequence[str], runtimes: Sequence[str] = (), threads: Sequence[int] = ()
) -> list[Configuration]:
    """Every way to run some models here.

    Args:
        models: .tflite files.
        runtimes: names in ``edgeq.runtime.RUNTIMES``; empty takes all that are installed.
        threads: empty takes those of 1, 2 and 4 for which there are cores.
    """
    cores = read_machine().cores
    return [
        Configuration(model, runtime, count, kernels)
        for model in models
        for runtime in runtimes or installed_runtimes()
        for kernels in _KERNELS
        for count in threads or [n for n in (1, 2, 4) if n <= cores]
    ]


def bench(wanted: Sequence[Configuration], seconds: float = 2.0, progress: Progress = no_progress) -> Benchmark:
    """Measure models in turns: each configuration runs for a moment, then the next, until each had its rounds.

    A machine's speed drifts with its temperature and its other work. In turns all configurations get the same
    share of that, so that ratios hold where times do not. One without XNNPACK is left out where the default
    does not use it either.

    Args:
        wanted: see :func:`configurations`.
        seconds: that each runs for, in all, after the first inference.
        progress: called with ("Loading", ...), then ("Measuring", rounds done, rounds in all).

    Raises:
        InputError: a model is not there.
        EdgeqError: not one configuration could be run.
    """
    for model in dict.fromkeys(c.model for c in wanted):
        if not Path(model).is_file():
            raise InputError(f"{model}: no such model file")
    before = read_machine()
    with contextlib.ExitStack() as stack:
        workers: list[_Worker] = []
        failures: list[Failure] = []
        for done, configuration in enumerate(wanted):
            progress("Loading", done, len(wanted))
            if any(w.replaces(configuration) for w in workers):
                continue
            worker = stack.enter_context(_running(configuration))
            try:
                worker.load()
                workers.append(worker)
            except EdgeqError as error:
                failures.append(Failure(*_fields(configuration), str(error)))
        for round_ in range(_ROUNDS + 1):  # the first warms up
            progress("Measuring", round_, _ROUNDS + 1)
            for worker in list(workers):
                try:
                    worker.take_turn(seconds / _ROUNDS, measured=round_ > 0)
                except EdgeqError as error:
                    workers.remove(worker)
                    failures.append(Failure(*_fields(worker.configuration), str(error)))
        progress("Measuring", _ROUNDS + 1, _ROUNDS + 1)
        measurements = tuple(worker.measurement() for worker in workers)
    if not measurements:
        raise EdgeqError(failures[0].reason if failures else "no TFLite runtime is installed")
    return Benchmark(before, read_machine(), measurements, tuple(failures), _ROUNDS)


def _fields(configuration: Configuration) -> tuple[str, str, int, str]:
    return configuration.model, configuration.runtime, configuration.threads, configuration.kernels


@contextlib.contextmanager
def _running(configuration: Configuration) -> Iterator[_Worker]:
    """A worker's process, which is gone afterwards."""
    process = start_module("edgeq.benchmarking.worker")
    try:
        yield _Worker(configuration, process)
    finally:
        process.kill()
        process.communicate()


class _Worker:
    """The near end of :mod:`edgeq.benchmarking.worker`."""

    def __init__(self, configuration: Configuration, process: subprocess.Popen[bytes]) -> None:
        self.configuration = configuration
        self._process = process
        self._facts: dict[str, Any] = {}
        self._times_ms: list[float] = []
        self._peak_rss_bytes: int | None = None

    def load(self) -> None:
        """Let the model be loaded and run once."""
        self._facts = self._ask(json.dumps(asdict(self.configuration)))

    def replaces(self, other: Configuration) -> bool:
        """Whether the other would only repeat this one: default kernels that make no use of XNNPACK."""
        alike = replace(self.configuration, kernels="built-in") == other
        return alike and not self._facts["delegated"]

    def take_turn(self, seconds: float, measured: bool) -> None:
        """Run for a while."""
        answer = self._ask(str(seconds))
        self._times_ms += answer["times_ms"] if measured else []
        self._peak_rss_bytes = answer["peak_rss_bytes"]

    def measurement(self) -> Measurement:
        """What all turns gave."""
        model, runtime, threads, _ = _fields(self.configuration)
        times = sorted(self._times_ms)
        median = statistics.median(times)
        return Measurement(
            model=model,
            size_bytes=Path(model).stat().st_size,
            runtime=f"{runtime} {runtime_version(runtime)}",
            threads=threads,
            kernels="XNNPACK" if self._facts["delegated"] else "built-in",
            import_ms=self._facts["import_ms"],
            load_ms=self._facts["load_ms"],
            first_ms=self._facts["first_ms"],
            runs=len(times),
            median_ms=median,
            p90_ms=_percentile(times, 90),
            p99_ms=_percentile(times, 99),
            min_ms=times[0],
            images_per_s=1000 / median,
            peak_rss_bytes=self._peak_rss_bytes,
        )

    def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            self._process.stdin.write(line.encode() + b"\n")
            self._process.stdin.flush()
            answer: dict[str, Any] = json.loads(self._process.stdout.readline() or b"{}")
        except BrokenPipeError:
            answer = {}
        if not answer:
            code = self._process.wait()
            how = f"died of signal {-code}" if code < 0 else f"ended with exit code {code}"
            raise EdgeqError(f"{self.configuration.model}: its process under {self.configuration.runtime} {how}")
        if "error" in answer:
            raise EdgeqError(answer["error"])
        return answer


def _percentile(ordered: Sequence[float], share: int) -> float:
    """The smallest value that no less than `share` percent of the ordered values do not exceed."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]
