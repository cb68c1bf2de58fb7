"""What a report was made with: versions, and the machine that the latencies are of."""

from __future__ import annotations

import platform

import numpy as np

import edgeq
from edgeq.execution.machine import read_machine

__all__ = ["provenance"]


def provenance() -> dict[str, str]:
    """Each as a name and what it is; nothing in it changes from run to run, nor names the machine or its user."""
    machine = read_machine()
    return {
        "edgeq": edgeq.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
        "machine": f"{platform.system()} on {machine.architecture}",
        "CPU": f"{machine.model or machine.architecture}, cores: {machine.cores}",
    }
