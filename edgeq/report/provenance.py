"""What a report was made with: versions, and the machine that the latencies are of."""

from __future__ import annotations

import os
import platform
import re
from pathlib import Path

import numpy as np

import edgeq

__all__ = ["cpu_model", "provenance"]


def provenance() -> dict[str, str]:
    """Each as a name and what it is; nothing in it changes from run to run, nor names the machine or its user."""
    return {
        "edgeq": edgeq.__version__,
        "NumPy": np.__version__,
        "Python": platform.python_version(),
        "machine": f"{platform.system()} on {platform.machine()}",
        "CPU": f"{cpu_model()}, cores: {os.cpu_count()}",
    }


def cpu_model(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    """The processor's name as Linux has it (on a Raspberry Pi: the board's), else what Python knows.

    Args:
        cpuinfo: the file where Linux says it.
    """
    try:
        text = cpuinfo.read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    for field in ("model name", "Model", "Hardware"):
        if match := re.search(rf"^{field}\s*:\s*(\S.*)$", text, re.MULTILINE):
            return " ".join(match[1].split())
    return platform.processor() or platform.machine()
