"""Worker processes, for work that could disturb this process: some runtimes cannot share a process, and some crash.

Uses only the standard library, because the agent on a device also starts its workers with this module.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from typing import Any

from edgeq.closing import Closing
from edgeq.errors import EdgeqError, WorkerDiedError, how_it_ended
from edgeq.execution.frames import read_frame, write_frame
from edgeq.python_process import start_python

__all__ = ["RUNNER", "WorkerProcess"]

RUNNER = "edgeq.execution.worker"
"""The program that runs models."""


class WorkerProcess(Closing):
    """A process that answers requests; used as ``with WorkerProcess() as worker``, which ends it.

    Several threads may use it; their requests are served one by one. The process ignores ctrl-C, which the parent
    process handles. It ends when its standard input closes, so it never outlives its parent.
    """

    def __init__(
        self,
        name: str = "the worker process",
        paths: Sequence[str] = (),
        folder: str | None = None,
        program: str = RUNNER,
    ) -> None:
        """Start the process.

        Args:
            name: the process's name in error messages.
            paths: folders to import edgeq and its dependencies from; by default the folder of this edgeq.
            folder: the process's working folder; None for the folder of this process.
            program: the module that it runs, which calls `edgeq.execution.serving.serve`.
        """
        self._name, self._lock = name, threading.Lock()
        self._process = start_python(program, paths, folder)

    @property
    def alive(self) -> bool:
        """Whether the process is still running."""
        return self._process.poll() is None

    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """Request an operation and wait for the answer.

        Args:
            do: name of the operation.
            payload: raw bytes that belong to the request.
            request: further arguments, as JSON data.

        Returns:
            The answer, and the raw bytes that belong to it.

        Raises:
            WorkerDiedError: the process ended; the message says how.
            EdgeqError: the operation failed; the message is the operation's.
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
        except BaseException:  # ctrl-C: the pending answer would be mistaken for the answer to the next request
            self.close()
            raise
        if "error" in answer:
            raise EdgeqError(answer["error"])
        return answer, result

    def kill(self) -> None:
        """End the process without waiting for it; a pending :meth:`ask` in another thread raises its error."""
        self._process.kill()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
