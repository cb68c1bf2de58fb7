"""``edgeq sweep --on`` an emulated Raspberry Pi: latencies from there, marked as emulated."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.sweeping import Status, Sweep

from .conftest import Board, run


@pytest.mark.accept
def test_latencies_come_from_the_board(board: Board, wheels: Path, photos: Path, tmp_path: Path) -> None:
    assert run(board, "device", "setup", board.host, "--wheels", wheels).code == 0
    options = (
        *("--from-scratch", "--network", "mobilenet_v3_small_minimalistic", "--alpha", 0.35, "--res", "32,96"),
        *("--format", "int8,fp32", "--epochs", 1, "--batch", 8, "--seconds", 0.2, "--on", board.host),
    )
    done = run(board, "sweep", photos, *options, "--out", tmp_path / "out", timeout=900)
    assert (done.code, done.err) == (0, "")
    found = Sweep.from_json(json.loads((tmp_path / "out" / "sweep.json").read_text()))
    assert {cell.status for cell in found.cells} == {Status.FINISHED}
    for cell in found.cells:
        (latency,) = cell.latencies
        assert latency.device == board.host
        assert latency.runtime.startswith("tflite-runtime 2.14.0 (")
        assert latency.machine.startswith("Raspberry Pi 4 Model B")
        assert latency.emulated_by == "x86_64"
        assert latency.median_ms > 0
        assert cell.peak_rss_bytes is None or cell.peak_rss_bytes > 10e6
    assert any("is emulated on x86_64; a real board has other latencies" in note for note in found.notes)
    assert "~" in done.out
    page = (tmp_path / "out" / "sweep.html").read_text()
    assert "emulated on x86_64" in page
    assert board.host in page
