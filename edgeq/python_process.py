"""Start Python processes that run a program of edgeq.

Uses only the standard library, because the agent on a device also starts its workers with this module.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

__all__ = ["start_python"]


def start_python(
    module: str, paths: Sequence[str] = (), folder: str | None = None, **variables: str
) -> subprocess.Popen[bytes]:
    """Start a module in a new session, with pipes to its standard input and output.

    Args:
        module: the module to run, as for ``python -m``.
        paths: folders to import edgeq and its dependencies from; by default the folder of this edgeq.
        folder: the process's working folder; None for the folder of this process.
        variables: further environment variables.

    Raises:
        OSError: the process cannot be started.
    """
    search = [*(paths or [str(Path(__file__).parents[1])]), os.environ.get("PYTHONPATH", "")]
    common = {
        "PYTHONPATH": os.pathsep.join(filter(None, search)),
        "PYTHONSAFEPATH": "1",  # do not import modules from the current folder, such as a user's json.py
        "TF_CPP_MIN_LOG_LEVEL": "3",
    }
    return subprocess.Popen(
        [sys.executable, "-m", module],
        cwd=folder,
        env={**os.environ, **common, **variables},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
