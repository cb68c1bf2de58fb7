"""Run .tflite models: one :class:`Model` class for every TFLite runtime.

`Model` is imported when it is first used, because it imports NumPy.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from edgeq.runtime.backends import KERNELS, RUNTIMES, available_cores, installed_runtimes, runtime_version

if TYPE_CHECKING:
    from edgeq.runtime.model import Model

__all__ = ["KERNELS", "RUNTIMES", "Model", "available_cores", "installed_runtimes", "runtime_version"]


def __getattr__(name: str) -> Any:
    if name != "Model":
        raise AttributeError(f"module 'edgeq.runtime' has no attribute {name!r}")
    from edgeq.runtime.model import Model

    return Model
