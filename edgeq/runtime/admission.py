"""Decide whether a model file may be loaded in this process.

Loading and running a model is native code that follows the file's numbers. The check of its tables
(:mod:`edgeq.tflite.checking`) finds what is inconsistent, not everything that crashes a kernel. So a file that was
never opened on this machine is first loaded and run in a separate process (:mod:`edgeq.runtime.trial`). Files that
passed are remembered (:mod:`edgeq.tflite.known`), for each runtime, number of threads and set of kernels.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
from collections.abc import Iterator
from contextvars import ContextVar
from pathlib import Path

from edgeq.errors import ModelError
from edgeq.memory import available_bytes
from edgeq.tflite.checking import Facts, check_file, facts_of, identity_of
from edgeq.tflite.known import Identity, known_files

__all__ = ["admit", "check_unchanged", "is_trusting", "remember_written", "require_memory", "trusting"]

_TRIAL = "trial 1"
_FITS = "activations 1"  # with a number of bytes that is enough for them
_WRITTEN = "written 1"  # by edgeq, which verified it
_EDGE_TPU = "edgetpu-custom-op"

_trusting: ContextVar[bool] = ContextVar("trusting", default=False)


@contextlib.contextmanager
def trusting(trust: bool = True) -> Iterator[None]:
    """Skip the trials of files that are opened in this context. Their tables are still checked.

    Args:
        trust: False to do nothing.

    Example:
        >>> with edgeq.trusting():
        ...     comparison = edgeq.compare("m_fp32.tflite", "m_int8.tflite", "photos/")
    """
    token = _trusting.set(trust or _trusting.get())
    try:
        yield
    finally:
        _trusting.reset(token)


def is_trusting() -> bool:
    """Return whether a `trusting` context is open."""
    return _trusting.get()


def admit(path: str | Path, runtime: str, threads: int = 1, kernels: str = "default", trust: bool = False) -> Identity:
    """Check a file and, if it was never opened on this machine, try it in a separate process.

    Args:
        path: a .tflite file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``.
        threads: number of threads that the interpreter may use; some files crash only with several.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        trust: whether to skip the trial, and to accept any custom operator.

    Returns:
        The file's identity, for `check_unchanged`.

    Raises:
        ModelError: the file is damaged, has an unknown custom operator, cannot be loaded, or crashed its trial.
    """
    identity = check_file(path)
    known, trial = known_files(), f"{_TRIAL} {runtime} {_installation(runtime)} {threads} {kernels}"
    if trust or is_trusting():
        known.add(trial, identity, lasting=False)  # threads of the caller may open the file again
        return identity
    if known.has(trial, identity):
        return identity
    from edgeq.files import sha256_of_file  # imported here: a file that was opened before needs none of this

    digest = sha256_of_file(path)
    if not known.has(trial, digest) and not known.has(_WRITTEN, digest):
        facts = facts_of(path, identity)
        _check_custom_operators(path, facts)
        from edgeq.runtime.trial import try_model

        try_model(path, runtime, threads, kernels, facts)
        check_unchanged(path, identity)
        known.add(trial, digest)
    known.add(trial, identity)
    return identity


def require_memory(path: str | Path) -> None:
    """Check that the weights and activations of a model fit into the memory that is available.

    The system would otherwise end the process, or another one, while the model is loaded. The activations are computed
    from the file's tables, which takes 10 ms, and for how much memory they were small enough is remembered.

    Raises:
        ModelError: the model does not fit, or see `check_file`.
    """
    identity, available = check_file(path), available_bytes()
    if available is None:
        return
    room = (1 << max(0, available - identity.size).bit_length()) >> 1  # a power of two, because each one is remembered
    fits = f"{_FITS} {room}"
    if known_files().has(fits, identity):
        return
    activations = facts_of(path, identity).peak_activation_bytes
    if identity.size + activations > available:
        raise ModelError(
            f"{path}: needs at least {(identity.size + activations) / 1e6:.0f} MB of memory, and "
            f"{available / 1e6:.0f} MB are available"
        )
    if activations <= room:
        known_files().add(fits, identity)


def check_unchanged(path: str | Path, identity: Identity) -> None:
    """Check that a file is still the one that was admitted.

    Raises:
        ModelError: it was changed or replaced.
    """
    if identity_of(path) != identity:
        raise ModelError(f"{path}: was changed while edgeq opened it; try again")


def remember_written(path: str | Path) -> None:
    """Remember a file that edgeq wrote and verified, so that its first opening needs no trial."""
    from edgeq.files import sha256_of_file

    known_files().add(_WRITTEN, sha256_of_file(path))


def _check_custom_operators(path: str | Path, facts: Facts) -> None:
    from edgeq.tflite.operators import CUSTOM_OPERATORS

    for index, name in facts.custom_operators:
        if name == _EDGE_TPU:
            raise ModelError(
                f"{path}: was compiled for the Edge TPU, which edgeq does not use; give the file that it was made from"
            )
        if name not in CUSTOM_OPERATORS:
            raise ModelError(
                f"{path}: operator {index} is the custom operator {name[:60]!r}, which no runtime has by itself; if "
                "yours has it and you trust the file, use --trust"
            )


def _installation(runtime: str) -> str:
    """Return what changes when another version of a runtime is installed, without importing the runtime."""
    spec = importlib.util.find_spec(runtime.replace("-", "_"))  # the package, named as the distribution is
    if spec is None or spec.origin is None:
        return "unknown"
    found = os.stat(spec.origin)  # noqa: PTH116 (on every start)
    return f"{spec.origin} {found.st_ino} {found.st_size} {found.st_mtime_ns}"
