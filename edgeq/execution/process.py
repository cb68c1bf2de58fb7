"""Worker processes: for what must not happen in this one, because runtimes cannot live together and some crash.

Uses nothing but the standard library, because the agent on a device starts its workers with this module too.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

from edgeq.errors import EdgeqError, WorkerDiedError
from edgeq.execution.frames import read_frame, write_frame

__all__ = ["Closing", "WorkerProcess", "how_it_ended"]


T = TypeVar("T", bound="Closing")


class Closing:
    """Base class of what a ``with`` block closes."""

    def close(self) -> None:
        """End it; may be called again."""
        raise NotImplementedError

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()


class WorkerProcess(Closing):
    """A process that runs :mod:`edgeq.execution.worker`; ``with WorkerProcess() as worker`` ends it.

    Several threads may ask it; they are answered one after the other. It does not get ctrl-C, which is for the asking
    process. It ends when its standard input does, so it never outlives that process.
    """

    def __init__(self, name: str = "the worker process", paths: Sequence[str] = ()) -> None:
        """Start it.

        Args:
            name: what an error message calls the process.
            paths: folders to import edgeq and its packages from; by default this edgeq's.
        """
        self._name, self._lock = name, threading.Lock()
        search = [*(paths or [str(Path(__file__).parents[2])]), os.environ.get("PYTHONPATH", "")]
        variables = {
            "PYTHONPATH": os.pathsep.join(filter(None, search)),
            "PYTHONSAFEPATH": "1",  # a json.py in the user's folder is not the standard library's
            "TF_CPP_MIN_LOG_LEVEL": "3",
        }
        self._process = subprocess.Popen(
            [sys.executable, "-m", "edgeq.execution.worker"],
            env={**os.environ, **variables},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )

    @property
    def alive(self) -> bool:
        """Whether it can still be asked."""
        return self._process.poll() is None

    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """Let it do one of its operations.

        Args:
            do: name of the operation.
            payload: raw bytes that belong to the request.
            request: JSON data.

        Returns:
            Its answer, and the raw bytes that belong to it.

        Raises:
            WorkerDiedError: the process ended; the message says how.
            EdgeqError: the operation failed; the message is its own.
        """
        assert self._process.stdin
        assert self._process.stdout
        try:
            with self._lock:
                write_frame(self._process.stdin, {"do": do, **request}, payload)
                answer, result = read_frame(self._process.stdout)
        except (OSError, EOFError):
            code = self._process.wait()
            raise WorkerDiedError(f"{self._name} {how_it_ended(code)}", code) from None
        except BaseException:  # ctrl-C: the pending answer would be taken for the next request's
            self.close()
            raise
        if "error" in answer:
            raise EdgeqError(answer["error"])
        return answer, result

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()


def how_it_ended(code: int) -> str:
    """Say how a process ended, as the second half of a sentence.

    Args:
        code: exit code; negative is the number of a signal, as `subprocess` has it.
    """
    if code >= 0:
        return f"ended with exit code {code}"
    if -code == signal.SIGKILL:
        return f"was killed (signal {-code}), which most often means that memory ran out"
    try:
        return f"died of signal {-code} ({signal.Signals(-code).name})"
    except ValueError:  # a signal without a name
        return f"died of signal {-code}"
