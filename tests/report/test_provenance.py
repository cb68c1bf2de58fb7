"""Where a report comes from."""

from __future__ import annotations

import platform

import numpy as np

import edgeq
from edgeq.execution.machine import read_machine
from edgeq.report.provenance import provenance


def test_versions_and_machine() -> None:
    told = provenance()
    assert (told["edgeq"], told["NumPy"]) == (edgeq.__version__, np.__version__)
    assert platform.machine() in told["machine"]
    assert platform.node() not in " ".join(told.values()).split()
    assert (read_machine().model or platform.machine()) in told["CPU"]
    assert told == provenance()
