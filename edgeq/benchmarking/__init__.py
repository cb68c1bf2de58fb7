"""How fast models run: under every runtime, with one thread and several, with XNNPACK and without."""

from __future__ import annotations

from edgeq.benchmarking.bench import Configuration, bench, configurations
from edgeq.benchmarking.machine import Machine, read_machine
from edgeq.benchmarking.result import Benchmark, Failure, Measurement

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
