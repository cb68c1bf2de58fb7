"""What a benchmark measured. These classes are the JSON as well."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.execution.machine import Machine

__all__ = ["Benchmark", "Failure", "Measurement"]


@dataclass(frozen=True)
class Measurement:
    """How fast one model ran in one way, in a process of its own.

    Attributes:
        model: the file.
        size_bytes: its size.
        runtime: name and version.
        threads: that the interpreter might use.
        kernels: ``XNNPACK`` where that took over operators, else ``built-in``.
        import_ms: importing the runtime.
        load_ms: reading the model, whose file was dropped from the page cache where possible, and preparing it.
        first_ms: the first inference.
        runs: inferences measured after the warm-up; the following are of these.
        median_ms: half of them took no longer.
        p90_ms: nine in ten took no longer.
        p99_ms: 99 in 100 took no longer.
        min_ms: the fastest.
        images_per_s: what the median makes of a second.
        peak_rss_bytes: the most memory that the process (Python, NumPy, runtime, model) ever had resident; None
            where the system does not tell.
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
    """A way in which a model could not be run.

    Attributes:
        model: the file.
        runtime: its name.
        threads: that were asked for.
        kernels: that were asked for: ``default`` or ``built-in``.
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
        before: the machine when it began.
        after: the machine when it ended; temperature and throttling tell whether it kept its speed.
        measurements: in the order of models, runtimes, kernels, threads.
        failures: what could not be measured.
        rounds: how many turns each configuration had; they alternate, so that ratios hold where times do not.
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
