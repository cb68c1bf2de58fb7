"""How fast models run: under every runtime, with one thread and several, with XNNPACK and without."""

from __future__ import annotations

from edgeq.benchmark.bench import Configuration, bench, configurations
from edgeq.benchmark.machine import Machine, read_machine
from edgeq.benchmark.result import Benchmark, Failure, Measurement

__all__ = [
    "Benchmark",
    "Configuration",
    "Failure",
    "Machine",
    "Measurement",
    "bench",
    "configurations",
    "read_machine",
]
