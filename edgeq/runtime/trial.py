"""Try a model in a separate process: load it, and run it once on noise, with limited time and memory.

The process (:mod:`edgeq.runtime.trial_process`) loads a runtime once and forks for each model, so that a second trial
takes milliseconds. It ends by itself when it is idle, and with the process that started it. Each runtime has its own,
because two runtimes cannot share one.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from pathlib import Path
from typing import Any

from edgeq.errors import ModelError, how_it_ended
from edgeq.python_process import start_python
from edgeq.tflite.checking import Facts

__all__ = ["try_model"]

_lock = threading.Lock()
_servers: dict[tuple[int, str], subprocess.Popen[bytes]] = {}  # by this process's ID, which a fork changes


def try_model(path: str | Path, runtime: str, threads: int, kernels: str, facts: Facts) -> None:
    """Load a model in another process and run it once.

    Args:
        path: a .tflite file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``.
        threads: number of threads that the interpreter may use.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        facts: what the check of the file's tables found out, from which the limits follow.

    Raises:
        ModelError: the runtime cannot load the model, or the process died, or exceeded a limit.
    """
    whole = os.path.abspath(path)  # noqa: PTH100 (resolving links could name another file)
    request = {
        "path": whole,
        "runtime": runtime,
        "threads": threads,
        "kernels": kernels,
        "multiply_adds": facts.multiply_adds,
        "activation_bytes": facts.activation_bytes,
    }
    with _lock:
        answer = _ask(runtime, request) or _ask(runtime, request)  # the first may have ended because it was idle
    if answer is None:
        raise ModelError(f"{path}: the process for its first trial ended; try again, or use --trust if you trust it")
    if "error" in answer:
        raise ModelError(str(answer["error"]).replace(whole, str(path), 1))
    problem = _problem(answer)
    if problem:
        raise ModelError(
            f"{path}: {problem} when edgeq tried this file in a separate process; do not use it, or use --trust if you "
            "know where it comes from"
        )


def _problem(answer: dict[str, Any]) -> str | None:
    """Return how a trial failed, or None if it passed."""
    if "seconds" in answer:
        return f"the runtime took more than {answer['seconds']:.0f} s"
    if "code" in answer:
        return f"the runtime {how_it_ended(answer['code'])}"
    return None


def _ask(runtime: str, request: dict[str, Any]) -> dict[str, Any] | None:
    """Send a request to a runtime's process; None if the process has ended."""
    key = (os.getpid(), runtime)
    server = _servers.get(key)
    if server is None or server.poll() is not None:
        server = _servers[key] = _start(request["path"])
    assert server.stdin
    assert server.stdout
    try:
        server.stdin.write(json.dumps(request).encode() + b"\n")
        server.stdin.flush()
        answer = server.stdout.readline()
        if answer:
            found: dict[str, Any] = json.loads(answer)
            return found
    except OSError:  # it has ended
        pass
    except BaseException:  # ctrl-C: the pending answer would be mistaken for the answer to the next request
        server.kill()
        raise
    server.kill()
    server.communicate()
    return None


def _start(path: str) -> subprocess.Popen[bytes]:
    try:
        # NumPy's threads would reserve memory.
        return start_python("edgeq.runtime.trial_process", OPENBLAS_NUM_THREADS="1")
    except OSError as error:
        raise ModelError(
            f"{path}: the process for its first trial cannot be started ({error.strerror}); use --trust to do without"
        ) from None
