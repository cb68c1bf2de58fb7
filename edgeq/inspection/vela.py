"""Check a model against what Arm's Ethos-U supports, by running Vela, Arm's compiler, which is an optional package."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import metadata, util

from edgeq.errors import ModelError, RuntimeUnavailableError, one_line
from edgeq.files import temporary_folder
from edgeq.tflite.graph import Graph

__all__ = ["complaints", "source"]

_WARNING = re.compile(r"^Warning \(supported operators\) operator: (\w+).*\n *Reason: (.*)", re.MULTILINE)
_NAMES = re.compile(r"\s*\([^()]*\)$")  # a list of tensor names, which is different for each operator


def source() -> str:
    """Return the version of Vela and its configuration, as text.

    Raises:
        RuntimeUnavailableError: Vela is not installed.
    """
    if util.find_spec("ethosu") is None:
        raise RuntimeUnavailableError(
            "target ethos-u: needs Arm's compiler Vela (pip install 'edgeq[ethos-u]', or ethos-u-vela)"
        )
    return f"Arm's compiler Vela {metadata.version('ethos-u-vela')}, for the Ethos-U55 with 256 multipliers"


def complaints(graph: Graph) -> Iterator[tuple[str, str]]:
    """Yield the operators that Vela does not map to the Ethos-U: each one's name, and Vela's reason.

    Raises:
        ModelError: Vela fails on the model.
    """
    with temporary_folder() as folder:
        command = [
            sys.executable,
            "-m",
            "ethosu.vela",
            "--accelerator-config",
            "ethos-u55-256",
            "--output-dir",
            str(folder),
        ]
        done = subprocess.run([*command, graph.path], capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["it says nothing"]
        raise ModelError(f"{graph.path}: Vela fails on this model ({one_line(lines[-1])})")
    for operator, reason in _WARNING.findall(done.stdout):
        yield operator, _NAMES.sub("", reason.strip())
