"""Processes that kill themselves (SIGKILL) at a chosen moment of their work on the file system.

Python reports each opening, renaming and removal of a file to audit hooks before it happens. Counting these events hits
every step between two of them, without any change to the program.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

__all__ = ["count_steps", "die_at", "fork", "forked", "on_step"]

_STEPS = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.link", "os.symlink", "os.truncate", "os.utime")
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT
_PATHLESS = ("ctypes.dlsym", "fcntl.flock")  # renameat2, and the locks of work folders


def die_at(number: int, folders: Sequence[Path]) -> None:
    """Kill this process before the `number`-th step, from 1, that changes something below the folders."""
    on_step(folders, lambda step: os.kill(os.getpid(), signal.SIGKILL) if step == number else None)


def on_step(folders: Sequence[Path], call: Callable[[int], object]) -> None:
    """Call a function with the number of each step that changes something below the folders, before the step."""
    roots, done, pid = tuple(str(folder.resolve()) for folder in folders), [0], os.getpid()

    def hook(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            path, _, flags = arguments
            if not isinstance(path, str | bytes | os.PathLike) or not flags & _WRITING:
                return
        elif event in _STEPS:
            path = arguments[0]
        elif event not in _PATHLESS or (event == "ctypes.dlsym" and arguments[1] != "renameat2"):
            return
        else:
            path = ""
        if isinstance(path, int):  # a descriptor
            path = ""
        name = os.fsdecode(path)
        # Names that are relative are those of shutil.rmtree, in a folder that it has opened.
        if os.getpid() == pid and (not name.startswith("/") or name.startswith(roots)):
            done[0] += 1
            call(done[0])

    sys.addaudithook(hook)


def count_steps(work: Callable[[], object], folders: Sequence[Path]) -> int:
    """Do the work in a forked process, and return its number of steps below the folders."""
    reading, writing = os.pipe()

    def count() -> None:
        on_step(folders, lambda step: os.write(writing, b"."))
        work()

    child = fork(count)
    os.close(writing)
    with os.fdopen(reading, "rb") as pipe:
        steps = len(pipe.read())
    _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0, "the work fails even if nobody kills it"
    return steps


def forked(work: Callable[[], object]) -> int:
    """Do the work in a forked process; return its exit code, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])


def fork(work: Callable[[], object]) -> int:
    """Do the work in a forked process, which ends with the work's exit code; return its ID."""
    sys.stdout.flush()
    sys.stderr.flush()
    child = os.fork()
    if child == 0:
        _be_the_child(work)
    return child


def _be_the_child(work: Callable[[], object]) -> NoReturn:
    code: Any = 1
    try:
        os.setsid()
        work()
        code = 0
    except SystemExit as exit_:
        code = exit_.code or 0
    except BaseException:
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code if isinstance(code, int) else 1)
