"""Turns: each configuration runs for a moment in its own process, then the next; memory limits how many are alive."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Sequence
from itertools import groupby
from pathlib import Path
from typing import NamedTuple

from edgeq.benchmarking.result import Failure, Measurement
from edgeq.errors import ConnectionLostError, EdgeqError
from edgeq.execution.backend import Backend, LoadedModel, Turn

__all__ = ["ROUNDS", "Configuration", "ConfigurationRun", "groups", "take_turns"]

ROUNDS = 10
"""Turns per configuration."""

_FEWEST_ALIVE = 2  # the first model and the one that is compared with it
_FEWEST_RUNS = 3  # in a turn, however slow
_PROCESS_BYTES = {"tensorflow": 650_000_000}
_OTHER_PROCESS_BYTES = 60_000_000  # ai-edge-litert and tflite-runtime with a small model: 45 to 60 MB
_BYTES_PER_FILE_BYTE = 3  # the file, packed weights, activations


class Configuration(NamedTuple):
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
    kernels: str


class ConfigurationRun:
    """One configuration, its process while that is alive, and the results of its turns.

    Attributes:
        configuration: what is run.
        expected_bytes: rough memory of its process.
        loaded: how the model was loaded the first time; None before.
        failure: why it cannot be run, or None.
    """

    def __init__(self, configuration: Configuration, start_backend: Callable[[str, str, int, str], Backend]) -> None:
        """Remember what to run.

        Args:
            configuration: what to run.
            start_backend: called with the configuration's parts whenever a process is needed.
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
        """Run for a while; a process is started if there is none, and warmed up by a turn that does not count.

        Raises:
            EdgeqError: it cannot be run.
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
        """End the process, if it is alive."""
        if self._backend is not None:
            self._backend.close()
            self._backend = None

    def fail(self, reason: str) -> None:
        """End the process for good."""
        self.stop()
        self.failure = Failure(*self.configuration, reason)

    def measurement(self, version: str) -> Measurement:
        """Summarize all turns; `version` is the runtime's."""
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

    The models in one configuration stay together, because their ratio is reported.

    Args:
        runs: sorted so that the same runtime, kernels and threads are adjacent.
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
    """Let configurations take their turns.

    As many processes are alive at a time as fit into the budget, and always two. If the group needs more, the first
    ones stay alive, and the others are started again for each of their turns.

    Args:
        group: the first one's process is never stopped in between.
        seconds: how long each runs, in total.
        budget_bytes: memory for the processes.
        repeats: whether a configuration would only repeat another and is omitted; asked before each turn.
        step: called before each turn.

    Raises:
        ConnectionLostError: the device is unreachable.
    """
    alive: list[ConfigurationRun] = []
    try:
        for round_ in range(ROUNDS + 1):  # the first warms up
            for run in group:
                step()
                if run.failure or repeats(run):
                    continue
                if run not in alive:
                    while len(alive) >= _FEWEST_ALIVE and _expected_bytes([*alive, run]) > budget_bytes:
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
    """The `share`-th percentile, by the nearest rank."""
    return ordered[max(0, -(-len(ordered) * share // 100) - 1)]
