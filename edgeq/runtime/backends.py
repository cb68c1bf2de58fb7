"""Find the installed TFLite runtimes, and make interpreters with them."""

from __future__ import annotations

import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from edgeq.errors import InputError, ModelError, RuntimeUnavailableError, one_line
from edgeq.quiet import quiet
from edgeq.runtime.admission import admit, check_unchanged, require_memory

__all__ = [
    "KERNELS",
    "RUNTIMES",
    "available_cores",
    "choose_runtime",
    "import_runtime",
    "installed_runtimes",
    "load_model",
    "make_interpreter",
    "open_content",
    "runtime_version",
]

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
    "tensorflow": "tensorflow.lite.python.interpreter",
}
"""Interpreter module of each runtime, fastest first (for INT8 on x86, and for import time)."""

KERNELS = ("default", "built-in", "reference")
"""Sets of kernels that a model can run on.

- ``default``: what the runtime chooses, usually XNNPACK.
- ``built-in``: the runtime's own optimized kernels, without XNNPACK or another delegate.
- ``reference``: TFLite's reference kernels, which are slow but give bit-identical results on every machine.
"""

_RESOLVERS = {"built-in": "BUILTIN_WITHOUT_DEFAULT_DELEGATES", "reference": "BUILTIN_REF"}


def installed_runtimes() -> list[str]:
    """List the runtimes that can be used in this process, fastest first. Imports none of them."""
    return [name for name in RUNTIMES if _obstacle(name) is None]


def _obstacle(name: str) -> str | None:
    """Return why a runtime cannot be used, or None if it can."""
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
    """Choose a runtime: `name`, else the environment variable ``EDGEQ_RUNTIME``, else the fastest installed one.

    Args:
        name: a name in `RUNTIMES`; None or an empty string to use ``EDGEQ_RUNTIME``; ``auto`` for the fastest
            installed runtime, whatever ``EDGEQ_RUNTIME`` says.

    Returns:
        A name in `RUNTIMES`.

    Raises:
        InputError: the name is not in `RUNTIMES`.
        RuntimeUnavailableError: the named runtime cannot be used in this process, or no runtime can.
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
    """Return the version of an installed runtime, for example ``2.14.0``, or ``unknown``."""
    from importlib import metadata

    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:  # tensorflow-cpu, or built from source
        return "unknown"


def make_interpreter(
    path: str | Path, runtime: str | None = None, threads: int = 1, kernels: str = "default", trust: bool = False
) -> tuple[str, Any]:
    """Check a model, load it and allocate its tensors.

    A file that was never opened on this machine is first tried in a separate process, see
    :mod:`edgeq.runtime.admission`.

    Args:
        path: a .tflite file.
        runtime: a name in `RUNTIMES`, or None (see :func:`choose_runtime`).
        threads: number of threads that the interpreter may use.
        kernels: a name in `KERNELS`.
        trust: whether to skip the trial.

    Returns:
        The runtime's name, and its ``Interpreter`` with the model loaded.

    Raises:
        InputError: the runtime's or the kernels' name is unknown.
        ModelError: the file is not a .tflite model, is damaged, or the runtime cannot load it.
        RuntimeUnavailableError: see :func:`choose_runtime`.
    """
    if kernels not in KERNELS:
        raise InputError(f"kernels {kernels!r}: must be one of {', '.join(KERNELS)}")
    require_memory(path)
    name = choose_runtime(runtime)
    identity = admit(path, name, threads, kernels, trust)
    interpreter = load_model(path, name, threads, kernels)
    check_unchanged(path, identity)
    return name, interpreter


def load_model(path: str | Path, name: str, threads: int, kernels: str) -> Any:
    """Load a model without checking it, and allocate its tensors; for the arguments see :func:`make_interpreter`.

    Raises:
        ModelError: the runtime cannot load the file.
        RuntimeUnavailableError: the runtime cannot be imported.
    """
    module = import_runtime(name)
    try:
        with quiet():
            try:
                interpreter = _open(module, _model_argument(path), threads, kernels)
            except ValueError as error:
                from edgeq.tflite.repair import repaired_model  # imported here: only some old files need it

                repaired = repaired_model(path, str(error))
                if repaired is None:
                    raise
                interpreter = _open(module, {"model_content": repaired}, threads, kernels)
    except (ValueError, RuntimeError) as error:
        raise ModelError(f"{path}: {name} cannot load this model ({one_line(error)})") from None
    return interpreter


def open_content(content: bytes, what: str, runtime: str | None = None, threads: int = 1) -> Any:
    """Load a model from memory and allocate its tensors.

    Args:
        content: the model as a .tflite flatbuffer.
        what: the model's name in error messages.
        runtime: a name in `RUNTIMES`, or None (see :func:`choose_runtime`).
        threads: number of threads that the interpreter may use.

    Returns:
        The runtime's ``Interpreter`` with the model loaded.

    Raises:
        InputError: the runtime's name is unknown.
        ModelError: the runtime cannot load the model.
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
    """Import the interpreter module of a runtime.

    Args:
        runtime: a name in `RUNTIMES`.

    Raises:
        RuntimeUnavailableError: the module cannot be imported.
    """
    try:
        with quiet():
            return importlib.import_module(RUNTIMES[runtime])
    except ImportError as error:
        if isinstance(error.__cause__, KeyboardInterrupt | SystemExit):  # pybind11 wraps what a signal handler raises
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
    """Return the interpreter's argument for a model: its path or, if that is not valid UTF-8, its content.

    pybind11 takes UTF-8 paths only.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        return {"model_content": Path(path).read_bytes()}
    return {"model_path": str(path)}
