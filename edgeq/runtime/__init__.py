"""Run .tflite models with every TFLite runtime: `Model` for image classifiers, `TensorModel` for all others.

These classes are imported when they are first used, because they import NumPy.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from edgeq.runtime.backends import KERNELS, RUNTIMES, available_cores, installed_runtimes, runtime_version

if TYPE_CHECKING:
    from edgeq.runtime.model import Model
    from edgeq.runtime.opening import open_model
    from edgeq.runtime.tensor_model import TensorModel, TensorSpec

__all__ = [
    "KERNELS",
    "RUNTIMES",
    "Model",
    "TensorModel",
    "TensorSpec",
    "available_cores",
    "installed_runtimes",
    "open_model",
    "runtime_version",
]

_LATER = {"Model": "model", "TensorModel": "tensor_model", "TensorSpec": "tensor_model", "open_model": "opening"}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'edgeq.runtime' has no attribute {name!r}")
    return getattr(importlib.import_module(f"edgeq.runtime.{_LATER[name]}"), name)
