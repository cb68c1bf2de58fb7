"""Measure the speed of models: under every runtime, with one thread and several, with and without XNNPACK."""

from __future__ import annotations

from edgeq.benchmarking.benchmark import bench, bench_devices
from edgeq.benchmarking.result import Benchmark, Failure, Measurement

__all__ = ["Benchmark", "Failure", "Measurement", "bench", "bench_devices"]
