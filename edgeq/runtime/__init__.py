"""Running .tflite models: one :class:`Model` over whichever TFLite runtime is installed."""

from __future__ import annotations

from edgeq.runtime.backends import KERNELS, RUNTIMES, installed_runtimes, runtime_version
from edgeq.runtime.model import Model, Overrides, TensorSpec

__all__ = [
    "KERNELS",
    "RUNTIMES",
    "Model",
    "Overrides",
    "TensorSpec",
    "installed_runtimes",
    "runtime_version",
]
