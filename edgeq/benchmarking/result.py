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
        model: the file.
        size_bytes: its size.
        runtime: name and version.
        threads: of the interpreter.
        kernels: ``XNNPACK`` if it took over operators, else ``built-in``.
        import_ms: importing the runtime.
        load_ms: reading the model from disk (where the page cache can be dropped) and preparing it.
        first_ms: the first inference.
        runs: inferences after the warm-up; the following measures are of these.
        median_ms: median time of an inference.
        p90_ms: 90th percentile.
        p99_ms: 99th percentile.
        min_ms: the fastest inference.
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
        model: the file.
        runtime: its name.
        threads: of the interpreter.
        kernels: ``default`` or ``built-in``.
        reason: what went wrong.
    """

    model: str
    runtime: str
    threads: int
    kernels: str
    reason: str


@dataclass(frozen=True)
class Benchmark:
    """Everything that a benchmark measured.

    Attributes:
        before: the machine at the beginning.
        after: the machine at the end; temperature and throttling show whether it kept its speed.
        measurements: in the order of models, runtimes, kernels, threads.
        failures: configurations that could not be measured.
        rounds: how many turns each configuration had; turns alternate, so ratios hold even if the speed drifts.
    """

    before: Machine
    after: Machine
    measurements: tuple[Measurement, ...]
    failures: tuple[Failure, ...]
    rounds: int

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the names of the attributes."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Benchmark:
        """Read what :meth:`to_json` gave."""
        return cls(
            before=Machine.from_json(data["before"]),
            after=Machine.from_json(data["after"]),
            measurements=tuple(Measurement(**m) for m in data["measurements"]),
            failures=tuple(Failure(**f) for f in data["failures"]),
            rounds=data["rounds"],
        )
