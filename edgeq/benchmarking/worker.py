"""One model under one runtime, in a process of its own that waits for its turns.

Runtimes cannot live in one process, memory is a process's, and a crash must not end the benchmark. So
``python -m edgeq.benchmarking.worker`` reads one line of JSON that says what to load, answers with how long that took,
and then for each further line, the seconds to run for, answers with the time of each inference. It ends when its
standard input does: when whoever asked is done, or dead.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from time import perf_counter
from typing import Any

from edgeq.errors import EdgeqError, one_line

__all__ = ["main"]

_FEWEST_RUNS = 3  # a turn, however slow


def main() -> None:
    """Serve one configuration until standard input ends."""
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what native libraries print is no answer
    try:
        interpreter, facts = _load(**json.loads(sys.stdin.readline()))
    except EdgeqError as error:
        answers.write(json.dumps({"error": str(error)}) + "\n")
        return
    answers.write(json.dumps(facts) + "\n")
    for line in sys.stdin:
        times_ms = _run(interpreter, float(line))
        answers.write(json.dumps({"times_ms": times_ms, "peak_rss_bytes": _peak_rss_bytes()}) + "\n")


def _load(model: str, runtime: str, threads: int, kernels: str) -> tuple[Any, dict[str, Any]]:
    """Load a model as if for the first time, and run it once on noise."""
    from edgeq.runtime.backends import import_runtime, make_interpreter

    start = perf_counter()
    import_runtime(runtime)
    imported = perf_counter()
    _drop_from_cache(model)
    opened = perf_counter()
    _, interpreter = make_interpreter(model, runtime, threads, kernels)
    loaded = perf_counter()
    _fill_inputs(interpreter)
    filled = perf_counter()
    _invoke(interpreter, model)
    done = perf_counter()
    return interpreter, {
        "import_ms": (imported - start) * 1000,
        "load_ms": (loaded - opened) * 1000,
        "first_ms": (done - filled) * 1000,
        "delegated": any(details["op_name"] == "DELEGATE" for details in interpreter._get_ops_details()),
    }


def _invoke(interpreter: Any, model: str) -> None:
    from edgeq.errors import ModelError

    try:
        interpreter.invoke()
    except (RuntimeError, ValueError) as error:
        raise ModelError(f"{model}: running the model failed ({one_line(error)})") from None


def _run(interpreter: Any, seconds: float) -> list[float]:
    times_ms: list[float] = []
    end = perf_counter() + seconds
    while len(times_ms) < _FEWEST_RUNS or perf_counter() < end:
        start = perf_counter()
        interpreter.invoke()
        times_ms.append((perf_counter() - start) * 1000)
    return times_ms


def _fill_inputs(interpreter: Any) -> None:
    """Noise, as zeros may be faster than what an image is."""
    import numpy as np

    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        dtype = np.dtype(details["dtype"])
        noise = rng.random(details["shape"])
        if dtype.kind in "iu":
            noise = noise * np.iinfo(dtype).max
        interpreter.set_tensor(details["index"], noise.astype(dtype))


def _drop_from_cache(path: str) -> None:
    """Let the next reader fetch the file from disk, as after the board was switched on."""
    if not hasattr(os, "posix_fadvise"):
        return
    with Path(path).open("rb") as file:
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def _peak_rss_bytes() -> int | None:
    """The most memory this program had resident; getrusage would count the process it was forked from as well."""
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
