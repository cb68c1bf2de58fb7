"""The server's side of the message format: the request loop of the worker program and of the agent on a device.

Uses only the standard library, because the agent runs before anything is installed.
"""

from __future__ import annotations

import errno
import os
import queue
import sys
import threading
from collections.abc import Callable, Mapping
from typing import IO, Any, NoReturn

from edgeq.errors import EdgeqError, one_line
from edgeq.execution.frames import read_frame, write_frame

__all__ = ["Operation", "Reply", "serve"]

Reply = tuple[dict[str, Any], bytes]
"""The answer to a request: JSON data, and raw bytes that belong to it."""

Operation = Callable[[dict[str, Any], bytes], Reply]
"""A function that handles a request: called with its JSON data and its raw bytes."""


def serve(operations: Mapping[str, Operation], greeting: bytes = b"") -> NoReturn:
    """Answer requests on standard output until standard input closes; then end the process, even during an operation.

    If an operation raises, the answer is the error's message, and the next request is served as usual.

    Args:
        operations: functions that handle requests, by the name that requests give under ``do``.
        greeting: bytes to write before the first answer.
    """
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # keep the output of native libraries out of the answers
    answers.write(greeting)
    answers.flush()
    requests: queue.Queue[Reply] = queue.Queue()
    threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        request, payload = requests.get()
        try:
            answer, result = operations[request["do"]](request, payload)
        except Exception as error:  # the requesting process reports it
            answer, result = {"error": _message(error)}, b""
        write_frame(answers, answer, result)


def _read_requests(stream: IO[bytes], requests: queue.Queue[Reply]) -> None:
    """Queue requests; end the process when the stream closes."""
    try:
        while True:
            requests.put(read_frame(stream))
    finally:
        os._exit(0)


def _message(error: Exception) -> str:
    if isinstance(error, EdgeqError):
        return str(error)
    if isinstance(error, OSError):
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return "its disk is full, or has no more room for further files (df -h, df -i)"
        return f"{error.filename or 'a file'}: {error.strerror or error}"
    return f"{type(error).__name__}: {one_line(error)}"
