"""Run configurations alternately in short turns, each in its own process, within a limit on memory."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from edgeq.benchmarking.result import Failure, Measurement
from edgeq.errors import ConnectionLostError, EdgeqError
from edgeq.execution.backend import Backend, LoadedModel, Turn

__all__ = ["ROUNDS", "SHARE_OF_MEMORY", "Configuration", "ConfigurationRun", "groups", "take_turns"]

ROUNDS = 10
"""Turns per configuration."""

SHARE_OF_MEMORY = 0.25
"""Fraction of the available memory that the processes may use together."""

_FEWEST_ALIVE = 2  # the first model and the one that is compared with it
_FEWEST_RUNS = 3  # inferences per turn, even if the model is slow
_PROCESS_BYTES = {"tensorflow": 650_000_000}
_OTHER_PROCESS_BYTES = 60_000_000  # ai-edge-litert and tflite-runtime with a small model: 45 to 60 MB
_BYTES_PER_FILE_BYTE = 3  # memory per byte of the file: the file itself, packed weights, activations


class Configuration(NamedTuple):
    """A way to run a model.

    Attributes:
        model: the .tflite file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``.
        threads: number of threads that the interpreter may use.
        kernels: ``default``, or ``built-in`` for no XNNPACK.
    """

    model: str
    runtime: str
    threads: int
    kernels: str


class ConfigurationRun:
    """One configuration, its process (if alive), and the results of its turns so far.

    Attributes:
        configuration: the configuration.
        expected_bytes: estimated memory of the process.
        loaded: facts about the first time the model was loaded; None before that.
        failure: why the configuration cannot be run, or None.
    """

    def __init__(self, configuration: Configuration, start_backend: Callable[[str, str, int, str], Backend]) -> None:
        """Remember what to run.

        Args:
            configuration: the configuration.
            start_backend: starts a process; called with the configuration's fields.
        """
        self.configuration, self._start_backend = configuration, start_backend
        self._size_bytes = Path(configuration.model).stat().st_size
        process = _PROCESS_BYTES.get(configuration.runtime, _OTHER_PROCESS_BYTES)
        self.expected_bytes = process + _BYTES_PER_FILE_BYTE * self._size_bytes
        self.loaded: LoadedModel | None = None
        self.failure: Failure | None = None
        self._backend: Backend | None = None
        self._first_ms = 0.0
        self._turns: list[Turn] = []

    def take_turn(self, seconds: float, measured: bool) -> None:
        """Run the model for some time. If there is no process, first start one and warm it up for the same time.

        Args:
            seconds: how long to run it.
            measured: whether the turn counts; if False, it only warms up the process.

        Raises:
            EdgeqError: the model cannot be run.
        """
        if self._backend is None:
            self._backend = self._start_backend(*self.configuration)
            loaded, first = self._backend.open(cold=True), self._backend.time(0)
            if self.loaded is None:
                self.loaded, self._first_ms = loaded, first.times_ms[0]
            self._backend.time(seconds, _FEWEST_RUNS)
        if measured:
            self._turns.append(self._backend.time(seconds, _FEWEST_RUNS))

    def stop(self) -> None:
        """End the process, if there is one."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def fail(self, reason: str) -> None:
        """End the process, and record why the configuration cannot be run."""
        self.stop()
        self.failure = Failure(*self.configuration, reason)

    def measurement(self, version: str) -> Measurement:
        """Summarize all turns.

        Args:
            version: the runtime's version.
        """
        c, loaded = self.configuration, self.loaded
        assert loaded
        times = sorted(time_ms for turn in self._turns for time_ms in turn.times_ms)
        median = statistics.median(times)
        return Measurement(
            model=c.model,
            size_bytes=self._size_bytes,
            runtime=f"{c.runtime} {version}",
            threads=c.threads,
            kernels="XNNPACK" if loaded.delegated else "built-in",
            import_ms=loaded.import_ms,
            load_ms=loaded.load_ms,
            first_ms=self._first_ms,
            runs=len(times),
            median_ms=median,
            p90_ms=_percentile(times, 90),
            p99_ms=_percentile(times, 99),
            min_ms=times[0],
            images_per_s=1000 / median,
            peak_rss_bytes=max((turn.peak_rss_bytes or 0 for turn in self._turns), default=0) or None,
        )


def groups(runs: Iterable[ConfigurationRun], budget_bytes: float) -> list[list[ConfigurationRun]]:
    """Split configurations into groups whose processes fit into memory together.

    Models with the same runtime, threads and kernels stay in one group, because their ratio is reported.

    Args:
        runs: the configurations, with those of the same runtime, threads and kernels next to each other.
        budget_bytes: memory for the processes.
    """
    found: list[list[ConfigurationRun]] = [[]]
    for _, same in groupby(runs, lambda run: run.configuration[1:]):
        models = list(same)
        if found[-1] and _expected_bytes(found[-1] + models) > budget_bytes:
            found.append([])
        found[-1] += models
    return found


def take_turns(
    group: Sequence[ConfigurationRun],
    seconds: float,
    budget_bytes: float,
    repeats: Callable[[ConfigurationRun], bool],
    step: Callable[[], None],
) -> None:
    """Run the configurations of a group alternately.

    As many processes are alive at the same time as fit into the budget, but at least two if they fit into the memory.
    If the group does not fit, the first processes stay alive, and the others are started again for each of their turns.

    Args:
        group: the configurations. The process of the first one stays alive until the end, if two fit into the memory.
        seconds: total time to run each configuration.
        budget_bytes: memory for the processes.
        repeats: returns whether to omit a configuration because it would repeat another one. ``built-in`` kernels
            repeat ``default`` if the default does not use XNNPACK either. Called before each turn.
        step: called before each turn.

    Raises:
        ConnectionLostError: the device is unreachable.
    """
    alive: list[ConfigurationRun] = []
    try:
        for round_ in range(ROUNDS + 1):  # the first round is the warm-up
            for run in group:
                step()
                if run.failure or repeats(run):
                    continue
                if run not in alive:
                    while alive and _expected_bytes([*alive, run]) > budget_bytes / (
                        1 if len(alive) >= _FEWEST_ALIVE else SHARE_OF_MEMORY
                    ):
                        alive.pop().stop()
                    alive.append(run)
                try:
                    run.take_turn(seconds / ROUNDS, measured=round_ > 0)
                except ConnectionLostError:
                    raise
                except EdgeqError as error:
                    alive.remove(run)
                    run.fail(str(error))
    finally:
        for run in alive:
            run.stop()


def _expected_bytes(runs: Sequence[ConfigurationRun]) -> int:
    return sum(run.expected_bytes for run in runs)


def _percentile(ordered: Sequence[float], share: int) -> float:
    """Return the `share`-th percentile of sorted values, by the nearest-rank method."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]
