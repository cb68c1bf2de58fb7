"""Measure the speed of models with every runtime, with one thread and several, with and without XNNPACK."""

from __future__ import annotations

from edgeq.benchmarking.benchmark import bench, bench_devices
from edgeq.benchmarking.result import Benchmark, Measurement

__all__ = ["Benchmark", "Measurement", "bench", "bench_devices"]
