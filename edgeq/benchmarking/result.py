"""The result of a benchmark; these classes define its JSON."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.execution.machine import Machine

__all__ = ["Benchmark", "Failure", "Measurement"]


@dataclass(frozen=True)
class Measurement:
    """The speed of one model in one configuration, measured in a separate process.

    Attributes:
        model: the model's file.
        size_bytes: the file's size in bytes.
        runtime: the runtime's name and version.
        threads: number of threads of the interpreter.
        kernels: ``XNNPACK`` if it runs some of the operators, else ``built-in``.
        import_ms: time to import the runtime, in milliseconds.
        load_ms: time to read the model (from disk, if the system allows dropping it from the page cache) and to
            allocate its tensors.
        first_ms: time of the first inference.
        runs: number of inferences after the warm-up, from which the following measures are computed.
        median_ms: median time of an inference.
        p90_ms: 90th percentile of the times.
        p99_ms: 99th percentile of the times.
        min_ms: time of the fastest inference.
        images_per_s: 1000 / median_ms.
        peak_rss_bytes: peak resident memory of the process (Python, NumPy, runtime, model); None if unknown.
    """

    model: str
    size_bytes: int
    runtime: str
    threads: int
    kernels: str
    import_ms: float
    load_ms: float
    first_ms: float
    runs: int
    median_ms: float
    p90_ms: float
    p99_ms: float
    min_ms: float
    images_per_s: float
    peak_rss_bytes: int | None


@dataclass(frozen=True)
class Failure:
    """A configuration in which a model could not be run.

    Attributes:
        model: the model's file.
        runtime: the runtime's name.
        threads: number of threads of the interpreter.
        kernels: ``default`` or ``built-in``.
        reason: why the model could not be run.
    """

    model: str
    runtime: str
    threads: int
    kernels: str
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """The results of a benchmark.

    Attributes:
        before: the machine at the start.
        after: the machine at the end. Its temperature and throttling show whether it kept its speed.
        measurements: the measurements, sorted by model, runtime, kernels and threads.
        failures: configurations that could not be measured.
        rounds: number of turns that each configuration had.
    """

    before: Machine
    after: Machine
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Benchmark:
        """Make an object from the data that :meth:`to_json` returns."""
        return cls(
            before=Machine.from_json(data["before"]),
            after=Machine.from_json(data["after"]),
            measurements=tuple(Measurement(**m) for m in data["measurements"]),
            failures=tuple(Failure(**f) for f in data["failures"]),
            rounds=data["rounds"],
        )
