"""How fast models run: under every runtime, with one thread and several, with XNNPACK and without."""

from __future__ import annotations

from edgeq.benchmarking.benchmark import bench, bench_devices
from edgeq.benchmarking.result import Benchmark, Failure, Measurement

__all__ = ["Benchmark", "Failure", "Measurement", "bench", "bench_devices"]
