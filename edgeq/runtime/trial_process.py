"""The program of the process that tries models: ``python -m edgeq.runtime.trial_process``.

It reads one request per line and answers with one line, both JSON. For each request it forks a child that limits
itself, loads the model and runs it once. A child cannot write files or gain rights, and its memory and time are
limited. This catches crashes; it is no sandbox.
"""

from __future__ import annotations

import contextlib
import ctypes
import json
import os
import resource
import select
import signal
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from edgeq.errors import EdgeqError, one_line
from edgeq.runtime.backends import choose_runtime, import_runtime, load_model

__all__ = ["main"]

_IDLE_S = 10.0
"""After this time without a request the process ends; the next request starts another one."""

_LOOP = 200_000  # turns of an empty loop,
_LOOP_S = 0.004  # which take this long on a 3 GHz desktop processor; on a Raspberry Pi Zero about 50 times as long
_BASE_S = 1.5  # processor time of a trial on such a desktop, at most: this,
_RATE = {"default": 150e6, "built-in": 150e6, "reference": 20e6}  # these multiply-adds per second,
_LOADING = 50e6  # and these bytes of the file per second
_LEAST_BYTES = 1 << 29  # of memory, and
_FILE_FACTOR = 8  # times the size of the file, because kernels keep several copies of weights, and
_ACTIVATIONS_FACTOR = 2  # times that of all activations
_PR_SET_NO_NEW_PRIVS = 38
_MOST_ANSWER_BYTES = 4096


def main() -> None:
    """Answer requests until standard input closes, or no request comes for some seconds."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    answers = os.dup(1)
    os.dup2(2, 1)  # keep the output of native libraries out of the answers
    slowness = _slowness()
    with open(0, "rb", buffering=0, closefd=False) as requests:
        while select.select([0], [], [], _IDLE_S)[0]:
            line = requests.readline()
            if not line:
                return
            request = json.loads(line)
            try:
                import_runtime(choose_runtime(request["runtime"]))
                answer = _try(request, slowness)
            except EdgeqError as error:
                answer = {"error": str(error)}
            except OSError as error:
                answer = {"error": f"{request['path']}: cannot be tried ({error.strerror})"}
            os.write(answers, json.dumps(answer).encode() + b"\n")


def _slowness() -> float:
    """Return how many times slower than a desktop processor this one runs Python; at least 1."""
    times = []
    for _ in range(3):  # the best of three: on a busy machine, other processes slow some of them down
        start = time.process_time()
        for _ in range(_LOOP):
            pass
        times.append(time.process_time() - start)
    return max(1.0, min(times) / _LOOP_S)


def _try(request: dict[str, Any], slowness: float) -> dict[str, Any]:
    """Fork, and wait for the child; return its error, how it ended, or nothing if the trial passed."""
    size = Path(request["path"]).stat().st_size
    work_s = request["multiply_adds"] / _RATE[request["kernels"]] + size / _LOADING
    seconds = slowness * (_BASE_S + work_s)
    memory = _LEAST_BYTES + _FILE_FACTOR * size + _ACTIVATIONS_FACTOR * request["activation_bytes"]
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(read)
        _be_the_trial(request, write, int(seconds) + 1, memory)
    os.close(write)
    waiting_s = 2 * seconds + 1  # wall-clock time, because other processes take their share
    said, ended = _read(read, time.monotonic() + waiting_s)
    os.close(read)
    if not ended:
        os.kill(child, signal.SIGKILL)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if not ended:
        return {"seconds": waiting_s}
    if code == -signal.SIGXCPU:
        return {"seconds": seconds}
    if code != 0 or not said:
        return {"code": code}
    answer: dict[str, Any] = json.loads(said)
    return answer


def _read(pipe: int, deadline: float) -> tuple[bytes, bool]:
    """Read what a child says, and whether it closed the pipe before the deadline."""
    said = b""
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([pipe], [], [], left)[0]:
            continue
        part = os.read(pipe, _MOST_ANSWER_BYTES)
        if not part:
            return said, True
        said = (said + part)[:_MOST_ANSWER_BYTES]
    return said, False


def _be_the_trial(request: dict[str, Any], pipe: int, seconds: int, memory: int) -> NoReturn:
    """Load and run the model, in the child."""
    code = 1
    try:
        _limit(seconds, memory)
        os.write(pipe, json.dumps(_outcome(request)).encode())
        code = 0
    finally:
        os._exit(code)


def _outcome(request: dict[str, Any]) -> dict[str, Any]:
    from edgeq.runtime.noise import fill_inputs

    path = request["path"]
    try:
        interpreter = load_model(path, request["runtime"], request["threads"], request["kernels"])
        # Noise is not what the model expects, so an error is no reason to refuse it.
        with contextlib.suppress(RuntimeError, ValueError, TypeError):
            fill_inputs(interpreter)
            interpreter.invoke()
    except EdgeqError as error:
        return {"error": str(error)}
    except MemoryError:
        return {"error": f"{path}: loading it takes more memory than its shapes explain, or than there is"}
    except Exception as error:  # the runtime's Python code stumbled
        return {"error": f"{path}: {request['runtime']} cannot load this model ({one_line(error)})"}
    return {}


def _limit(seconds: int, memory: int) -> None:
    """Limit this process. A limit that the system does not have is left out."""
    in_use = 0
    with contextlib.suppress(OSError, ValueError):
        pages = Path("/proc/self/statm").read_text(encoding="ascii").split()[0]
        in_use = int(pages) * resource.getpagesize()
    limits = [
        (resource.RLIMIT_CORE, 0, 0),
        (resource.RLIMIT_FSIZE, 0, 0),
        (resource.RLIMIT_CPU, seconds, seconds + 1),
    ]
    if in_use:
        limits.append((resource.RLIMIT_AS, in_use + memory, in_use + memory))
    for what, soft, hard in limits:
        with contextlib.suppress(OSError, ValueError):
            most = resource.getrlimit(what)[1]
            if most != resource.RLIM_INFINITY:
                soft, hard = min(soft, most), min(hard, most)  # noqa: PLW2901
            resource.setrlimit(what, (soft, hard))
    if sys.platform == "linux":
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)


if __name__ == "__main__":
    main()
