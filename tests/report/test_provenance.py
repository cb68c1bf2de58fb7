"""Where a report comes from."""

from __future__ import annotations

import platform
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.report.provenance import cpu_model, provenance


def test_versions_and_machine() -> None:
    told = provenance()
    assert (told["edgeq"], told["NumPy"]) == (edgeq.__version__, np.__version__)
    assert platform.machine() in told["machine"]
    assert platform.node() not in " ".join(told.values()).split()
    assert told == provenance()


@pytest.mark.parametrize(
    ("text", "model"),
    [
        ("processor\t: 0\nmodel name\t: Some  Desk CPU @ 3.00GHz\nflags: a\n", "Some Desk CPU @ 3.00GHz"),
        (
            "processor\t: 0\nBogoMIPS\t: 108.00\n\nRevision\t: d03114\nModel\t\t: Raspberry Pi 4 Rev 1.4\n",
            "Raspberry Pi 4 Rev 1.4",
        ),
        ("nothing known", platform.processor() or platform.machine()),
        (None, platform.processor() or platform.machine()),
    ],
    ids=["x86", "raspberry-pi", "unknown", "no-file"],
)
def test_cpu_model(text: str | None, model: str, tmp_path: Path) -> None:
    if text is not None:
        (tmp_path / "cpuinfo").write_text(text)
    assert cpu_model(tmp_path / "cpuinfo") == model
