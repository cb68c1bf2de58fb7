"""Signals that arrive where an exception does not get through."""

from __future__ import annotations

import subprocess
import sys

import pytest
from conftest import ROOT

# Stands for a native module that swallows what is raised while it is imported.
DEAF = """
import os, signal, sys, time
import edgeq.cli

def deaf(*arguments, **options):
    try:
        os.kill(os.getpid(), signal.{name})
        time.sleep(5)
    except BaseException:
        pass
    time.sleep(20)
    print("went on")

edgeq.cli.cli.main = deaf
edgeq.cli.main([])
"""


@pytest.mark.parametrize(("name", "code"), [("SIGINT", 130), ("SIGTERM", 143)])
def test_a_signal_that_was_swallowed_is_raised_again(name: str, code: int) -> None:
    done = subprocess.run(
        [sys.executable, "-c", DEAF.format(name=name)], cwd=ROOT, capture_output=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (code, b"")
    assert b"Traceback" not in done.stderr
