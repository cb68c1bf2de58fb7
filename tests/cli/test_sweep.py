"""``edgeq sweep``: its options, and the whole way as a user goes it."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click
import pytest
from conftest import ROOT, Finished

from cli import error_of
from edgeq.cli.values import Bytes, Duration
from edgeq.sweeping import Sweep

Run = Callable[..., Finished]


@pytest.mark.parametrize(
    ("text", "seconds"), [("90s", 90), ("20m", 1200), ("2h", 7200), ("1h30m", 5400), ("0.5h", 1800)]
)
def test_times(text: str, seconds: float) -> None:
    assert Duration().convert(text, None, None) == seconds


@pytest.mark.parametrize(
    ("text", "count"), [("4000000", 4_000_000), ("4M", 4_000_000), ("500k", 500_000), ("1.5 MB", 1_500_000)]
)
def test_sizes(text: str, count: int) -> None:
    assert Bytes().convert(text, None, None) == count


@pytest.mark.parametrize("text", ["", "20", "m", "2d", "-1m"])
def test_what_is_no_time(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a time"):
        Duration().convert(text, None, None)


@pytest.mark.parametrize("text", ["", "M", "4T", "-1", "4b4"])
def test_what_is_no_size(text: str) -> None:
    with pytest.raises(click.BadParameter, match="is not a size"):
        Bytes().convert(text, None, None)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--network", "resnet"], "'resnet' is not one of"),
        (["--format", "int8,int4"], "'int4' is not one of"),
        (["--res", "96,big"], "'big' is not a size"),
        (["--alpha", "0.5,0"], "0.0 is not in the range"),
        (["--budget", "20"], "'20' is not a time"),
        (["--weights", "imagenet", "--from-scratch"], "--from-scratch: only for training"),
        (["--weights", "imagenet", "--epochs", "3"], "--epochs: only for training"),
        (["--from-scratch", "--views", "3"], "omit --views"),
        (["--fine-tune-epochs", "3"], "--fine-tune-epochs: only with --fine-tune"),
        (["--calib", "x"], "--calib: only with --weights imagenet"),
        (["--res", "16", "--output-stride", "32"], "too small for an output stride of 32"),
        (["--resume"], "no sweep to resume"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_options(options: list[str], message: str, photos: Path, tmp_path: Path, edgeq: Run) -> None:
    assert message in error_of(edgeq("sweep", photos, "--out", "out", *options, cwd=tmp_path))
    assert not (tmp_path / "out").exists()


@pytest.mark.accept
def test_killed_and_resumed(photos: Path, tmp_path: Path, edgeq: Run) -> None:
    """Table, JSON and page of a sweep that was killed while it trained agree with each other."""
    options = (
        *("sweep", str(photos), "--from-scratch", "--res", "32", "--alpha", "0.35,0.5", "--epochs", "4"),
        *("--network", "mobilenet_v3_small_minimalistic", "--format", "int8,fp32", "--seconds", "0.2", "--out", "out"),
    )
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeq", *options],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 200
    while not list(tmp_path.glob("out/networks/*/*.training/*.state.npz")) and time.monotonic() < deadline:
        time.sleep(0.2)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    assert json.loads((tmp_path / "out" / "spent.json").read_text())["seconds"] > 0
    assert "holds a sweep; continue it with --resume" in error_of(edgeq(*options, cwd=tmp_path))
    refused = error_of(edgeq(*options, "--resume", "--seed", "1", cwd=tmp_path))
    assert "(--seed, photos)" in refused
    done = edgeq(*options, "--resume", cwd=tmp_path)
    assert (done.code, done.err) == (0, "")
    found = Sweep.from_json(json.loads((tmp_path / "out" / "sweep.json").read_text()))
    assert [cell.status for cell in found.cells] == ["finished"] * 4
    page = (tmp_path / "out" / "sweep.html").read_text()
    for cell in found.cells:
        assert cell.validation is not None
        assert re.search(
            rf"v3_small_mini_{cell.alpha}_32_os8 +{cell.format}  +{100 * cell.validation.top1:.1f} ", done.out
        )
        assert f'.validation.top1" data-value="{json.dumps(cell.validation.top1)}"' in page
    assert found.picks is not None
    assert f"Most accurate: {found.picks.most_accurate}" in " ".join(done.out.split())
