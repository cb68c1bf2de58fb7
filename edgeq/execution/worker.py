"""The program of a worker process, which runs models for another process: ``python -m edgeq.execution.worker``.

A separate process is needed because some runtimes cannot share a process, because its memory can be measured alone, and
because a crash in native code must not end the requesting process.

The program answers requests (:mod:`edgeq.execution.frames`) until its standard input closes. A request about a model
describes it completely under ``model``: path, runtime, threads, kernels, trust. The first request loads the model. So
if a worker ends, its request can be repeated to another worker.
"""

from __future__ import annotations

import importlib
import os
from functools import cache
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

from edgeq.errors import ModelError, one_line
from edgeq.execution.serving import Reply, serve

if TYPE_CHECKING:
    from edgeq.runtime import Model

__all__ = ["main"]


def main() -> None:
    """Answer requests until standard input closes."""
    serve({"call": _call, "machine": _machine, "open": _open, "run": _run, "run_image": _run_image, "time": _time})


def _call(request: dict[str, Any], payload: bytes) -> Reply:
    """Call a function of edgeq, given as ``module:name``, with the raw bytes and JSON arguments."""
    module, _, name = request["function"].partition(":")
    function = getattr(importlib.import_module(module), name)
    return {"result": function(payload, **request["arguments"])}, b""


def _machine(request: dict[str, Any], payload: bytes) -> Reply:
    """Return this machine's properties and state."""
    from edgeq.execution.machine import read_machine

    return read_machine().to_json(), b""


def _open(request: dict[str, Any], payload: bytes) -> Reply:
    """Load a model; if ``cold``, remove its file from the page cache first."""
    if request["cold"]:
        _admit(**request["model"])  # it may read the file
        _drop_from_cache(request["model"]["path"])
    return _loaded(**request["model"]).facts, b""


def _run(request: dict[str, Any], payload: bytes) -> Reply:
    """Run a model on its input tensors, whose bytes follow each other in the payload."""
    import numpy as np

    model = _loaded(**request["model"])
    start = perf_counter()
    try:
        offset = 0
        for source in model.interpreter.get_input_details():
            count = int(np.prod(source["shape"]))
            values = np.frombuffer(payload, source["dtype"], count, offset)
            model.interpreter.set_tensor(source["index"], values.reshape(source["shape"]))
            offset += values.nbytes
        model.interpreter.invoke()
        outputs = [model.interpreter.get_tensor(d["index"]) for d in model.interpreter.get_output_details()]
    except (RuntimeError, ValueError) as error:
        raise model.failure(error) from None
    return _answer(outputs, model.facts["runtime"], invoke=perf_counter() - start)


def _run_image(request: dict[str, Any], payload: bytes) -> Reply:
    """Decode and preprocess an image file, and run a model on it."""
    mean, std, channels, crop = request["preprocessing"]
    model = _classifier(tuple(mean), tuple(std), channels, crop, **request["model"])
    start = perf_counter()
    image = model.preprocessing.decode(request["image"])
    decoded = perf_counter()
    tensor = model.tensor(model.preprocessing.resample(image))
    ready = perf_counter()
    output = model.invoke(tensor)
    done = perf_counter()
    return _answer([output], model.runtime, decode=decoded - start, preprocess=ready - decoded, invoke=done - ready)


def _answer(outputs: list[Any], runtime: str, **seconds: float) -> Reply:
    """Make the answer: the output tensors, not dequantized, the runtime's name and version, and each step's time."""
    times_ms = {step: round(1000 * duration, 3) for step, duration in seconds.items()}
    about = {"runtime": f"{runtime} {_version(runtime)}", "times_ms": times_ms}
    kinds = [[str(output.dtype), list(output.shape)] for output in outputs]
    return {**about, "outputs": kinds}, b"".join(output.tobytes() for output in outputs)


def _time(request: dict[str, Any], payload: bytes) -> Reply:
    """Run a model on noise for some seconds, but at least a minimum number of times."""
    model = _loaded(**request["model"])
    model.fill_inputs()
    times_ms: list[float] = []
    end = perf_counter() + request["seconds"]
    try:
        while len(times_ms) < request["at_least"] or perf_counter() < end:
            start = perf_counter()
            model.interpreter.invoke()
            times_ms.append((perf_counter() - start) * 1000)
    except (RuntimeError, ValueError) as error:
        raise model.failure(error) from None
    return {"times_ms": times_ms, "peak_rss_bytes": _peak_rss_bytes()}, b""


class _LoadedModel:
    """A model that is loaded by a runtime.

    Attributes:
        interpreter: the runtime's ``Interpreter``.
        facts: the attributes of `edgeq.execution.backend.LoadedModel`.
    """

    def __init__(self, path: str, runtime: str | None, threads: int, kernels: str, trust: bool) -> None:
        from edgeq.runtime.backends import import_runtime, load_model

        self._path, self._filled = path, False
        name = _admit(path, runtime, threads, kernels, trust)
        start = perf_counter()
        import_runtime(name)
        imported = perf_counter()
        self.interpreter = load_model(path, name, threads, kernels)
        loaded = perf_counter()
        self.facts: dict[str, Any] = {
            "runtime": name,
            "import_ms": (imported - start) * 1000,
            "load_ms": (loaded - imported) * 1000,
            "delegated": any(details["op_name"] == "DELEGATE" for details in self.interpreter._get_ops_details()),
        }

    def fill_inputs(self) -> None:
        """Set the inputs to noise, once."""
        from edgeq.runtime.noise import fill_inputs

        if not self._filled:
            fill_inputs(self.interpreter)
        self._filled = True

    def failure(self, error: Exception) -> ModelError:
        """Return the error to raise if running the model raised `error`."""
        return ModelError(f"{self._path}: running the model failed ({one_line(error)})")


def _admit(path: str, runtime: str | None, threads: int, kernels: str, trust: bool) -> str:
    """Check a model, and try it if it was never opened on this machine; return the name of its runtime."""
    from edgeq.runtime.admission import admit
    from edgeq.runtime.backends import choose_runtime

    name = choose_runtime(runtime)
    admit(path, name, threads, kernels, trust)
    return name


_loaded = cache(_LoadedModel)  # the model that a request describes, loaded once


@cache
def _classifier(mean: tuple[float, ...], std: tuple[float, ...], channels: str, crop: float, **model: Any) -> Model:
    """Return the model that a request describes, loaded once, with its preprocessing of images."""
    from edgeq.runtime import Model
    from edgeq.tflite.metadata import Overrides

    return Model(**model, overrides=Overrides((mean, std), channels, crop))


@cache
def _version(runtime: str) -> str:
    from edgeq.runtime import runtime_version

    return runtime_version(runtime)


def _drop_from_cache(path: str) -> None:
    """Remove a file from the page cache, so that it is read from disk as after a reboot."""
    if hasattr(os, "posix_fadvise") and Path(path).is_file():
        with Path(path).open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _peak_rss_bytes() -> int | None:
    """Return this process's peak resident memory; None if unknown.

    ``getrusage`` would include the process that this one was forked from.
    """
    try:
        status = Path("/proc/self/status").read_text(encoding="utf-8")
    except OSError:
        return None
    for line in status.splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    return None


if __name__ == "__main__":
    main()
