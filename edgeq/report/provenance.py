"""The provenance of a report: versions, and the machine on which latencies were measured."""

from __future__ import annotations

import platform

import numpy as np

import edgeq
from edgeq.execution.machine import read_machine

__all__ = ["provenance"]


def provenance() -> dict[str, str]:
    """Return names and values. They are the same in every run, and do not identify the machine or its user."""
    machine = read_machine()
    return {
        "edgeq": edgeq.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
        "machine": f"{platform.system()} on {machine.architecture}",
        "CPU": f"{machine.model or machine.architecture}, cores: {machine.cores}",
    }
