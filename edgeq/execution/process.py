"""Starting a process for what must not happen in this one: runtimes cannot live together, and some crash."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

__all__ = ["start_module"]


def start_module(module: str) -> subprocess.Popen[bytes]:
    """Start ``python -m module``, with this very edgeq, pipes for its standard input and output, and silence.

    It is not told of ctrl-C, which is for whoever asked: that one closes the pipe, or dies, and the module is to end
    when its standard input does.
    """
    path = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    return subprocess.Popen(
        [sys.executable, "-m", module],
        env={**os.environ, "PYTHONPATH": path, "TF_CPP_MIN_LOG_LEVEL": "3"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
