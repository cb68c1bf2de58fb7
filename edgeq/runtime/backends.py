"""The TFLite runtimes: which are installed, and interpreters from them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from edgeq.errors import InputError, ModelError, RuntimeUnavailableError, one_line
from edgeq.quiet import quiet
from edgeq.tflite.header import check_file

__all__ = [
    "KERNELS",
    "RUNTIMES",
    "available_cores",
    "choose_runtime",
    "import_runtime",
    "installed_runtimes",
    "make_interpreter",
    "open_content",
    "runtime_version",
]

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
"""Interpreter module of each runtime, fastest first (to run INT8 on x86, and to import)."""

_VERIFYING = ("ai-edge-litert",)  # the others crash on a truncated file

KERNELS = ("default", "built-in", "reference")
"""``default`` uses XNNPACK where the runtime does so, ``built-in`` the runtime's own kernels alone. ``reference`` uses
TFLite's reference kernels: slow, but with bit-identical results on every machine."""

_RESOLVERS = {"built-in": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


def installed_runtimes() -> list[str]:
    """List the runtimes that can be used in this process, fastest first, without importing them."""
    return [name for name in RUNTIMES if _obstacle(name) is None]


def _obstacle(name: str) -> str | None:
    """Why a runtime cannot be used, or None."""
    package = RUNTIMES[name].partition(".")[0]
    if importlib.util.find_spec(package) is None:
        return f"is not installed (pip install {name})"
    if name == "tflite-runtime":
        import numpy as np

        if not np.__version__.startswith("1."):
            return f"needs numpy below 2, but numpy {np.__version__} is installed (pip install 'numpy<2')"
        if "tensorflow" in sys.modules:
            return "does not work in a process that has imported tensorflow"
    return None


def choose_runtime(name: str | None = None) -> str:
    """Choose a runtime: `name`, else the environment variable ``EDGEQ_RUNTIME``, else the fastest one installed.

    Args:
        name: one of `RUNTIMES`, ``auto`` or None.

    Raises:
        InputError: there is no runtime of that name.
        RuntimeUnavailableError: that runtime cannot be used in this process, or none can.
    """
    wanted = name or os.environ.get("EDGEQ_RUNTIME") or "auto"
    if wanted == "auto":
        installed = installed_runtimes()
        if not installed:
            reasons = "; ".join(f"{runtime} {_obstacle(runtime)}" for runtime in RUNTIMES)
            raise RuntimeUnavailableError(f"no TFLite runtime can be used: {reasons}")
        return installed[0]
    if wanted not in RUNTIMES:
        raise InputError(f"runtime {wanted!r}: must be one of auto, {', '.join(RUNTIMES)}")
    obstacle = _obstacle(wanted)
    if obstacle:
        raise RuntimeUnavailableError(f"runtime {wanted} {obstacle}")
    return wanted


def available_cores() -> int:
    """Count the processor cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def runtime_version(name: str) -> str:
    """Version of an installed runtime, for instance ``2.14.0``, or ``unknown``."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # tensorflow-cpu, or built from source
        return "unknown"


def make_interpreter(
    path: str | Path, runtime: str | None = None, threads: int = 1, kernels: str = "default"
) -> tuple[str, Any]:
    """Load a model and allocate its tensors.

    Args:
        path: a .tflite file.
        runtime: a name in `RUNTIMES`, or None (see :func:`choose_runtime`).
        threads: how many the interpreter may use.
        kernels: one of `KERNELS`.

    Returns:
        The runtime's name, and its ``Interpreter``.

    Raises:
        InputError: there is no such runtime or no such kernels.
        ModelError: the file is no .tflite model, or the runtime cannot load it.
        RuntimeUnavailableError: see :func:`choose_runtime`.
    """
    if kernels not in KERNELS:
        raise InputError(f"kernels {kernels!r}: must be one of {', '.join(KERNELS)}")
    check_file(path)
    name = choose_runtime(runtime)
    if name not in _VERIFYING:
        from edgeq.tflite.integrity import is_whole  # takes a millisecond; the fastest runtime does it itself

        if not is_whole(path):
            raise ModelError(f"{path}: cut off or damaged, its tables point past its end; copy or convert it again")
    module = import_runtime(name)
    try:
        with quiet():
            try:
                interpreter = _open(module, _model_argument(path), threads, kernels)
            except ValueError as error:
                from edgeq.tflite.repair import repaired_model  # rarely needed, for old files

                repaired = repaired_model(path, str(error))
                if repaired is None:
                    raise
                interpreter = _open(module, {"model_content": repaired}, threads, kernels)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: {name} cannot load this model ({one_line(error)})") from None
    return name, interpreter


def open_content(content: bytes, what: str, runtime: str | None = None, threads: int = 1) -> Any:
    """Load a model from memory and allocate its tensors.

    Args:
        content: a .tflite flatbuffer.
        what: what to call the model in messages.
        runtime: a name in `RUNTIMES`, or None (see :func:`choose_runtime`).
        threads: how many the interpreter may use.

    Returns:
        The runtime's ``Interpreter``, its tensors allocated.

    Raises:
        ModelError: the runtime cannot load it.
        RuntimeUnavailableError: see :func:`choose_runtime`.
    """
    name = choose_runtime(runtime)
    module = import_runtime(name)
    try:
        with quiet():
            return _open(module, {"model_content": content}, threads, KERNELS[0])
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{what}: {name} cannot load this model ({one_line(error)})") from None


def import_runtime(runtime: str) -> Any:
    """Import the interpreter module of a runtime, a name in `RUNTIMES`.

    Raises:
        RuntimeUnavailableError: it cannot be imported.
    """
    try:
        with quiet():
            return importlib.import_module(RUNTIMES[runtime])
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt | SystemExit):  # a signal, which pybind11 wraps
            raise error.__cause__ from None
        raise RuntimeUnavailableError(f"runtime {runtime} cannot be imported ({error})") from None


def _open(module: Any, model: dict[str, Any], threads: int, kernels: str) -> Any:
    """Make an interpreter and allocate its tensors."""
    options: dict[str, Any] = {"num_threads": threads}
    if kernels in _RESOLVERS:
        options["experimental_op_resolver_type"] = module.OpResolverType[_RESOLVERS[kernels]]
    interpreter = module.Interpreter(**model, **options)
    interpreter.allocate_tensors()
    return interpreter


def _model_argument(path: str | Path) -> dict[str, Any]:
    """The model by its path, or by its content where the path is not UTF-8, which pybind11 requires."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return {"model_content": Path(path).read_bytes()}
    return {"model_path": str(path)}
