"""Signals that arrive where an exception does not get through."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from conftest import ROOT, IntegerPair

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


CODES = {signal.SIGINT: 130, signal.SIGTERM: 143}


def many(photos: Path, folder: Path, count: int = 3000) -> Path:
    """A folder of links to photos, whose classification takes a while."""
    folder.mkdir()
    files = sorted(photos.rglob("*.jpg"))
    for number in range(count):
        (folder / f"{number:04}.jpg").symlink_to(files[number % len(files)])
    return folder


def interrupt(kind: signal.Signals, after_s: float, *arguments: object, folder: Path) -> tuple[int, str]:
    """Start a command, send it a signal, and return its exit code and what it said; nothing of it may be left."""
    scratch = folder / "tmp"
    scratch.mkdir()
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeq", *map(str, arguments)],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(scratch)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    mark = f"TMPDIR={scratch}".encode()  # what it starts inherits this
    time.sleep(after_s)
    assert process.poll() is None, "it had ended before the signal"
    process.send_signal(kind)
    _, said = process.communicate(timeout=60)
    deadline = time.monotonic() + 10
    while (left := [pid for pid in running() if mark in environment_of(pid)]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
    assert list(scratch.iterdir()) == []
    return process.returncode, said


def running() -> list[int]:
    return [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]


def environment_of(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return b""


@pytest.mark.sampled(4)
@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="looks for processes in /proc")
@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["infer", "bench", "refine", "compare"])
def test_long_work_ends_at_once_and_leaves_nothing(
    name: str, kind: signal.Signals, blocks: IntegerPair, photos: Path, tmp_path: Path
) -> None:
    folder = many(photos, tmp_path / "photos")
    (tmp_path / "out").mkdir()
    commands: dict[str, list[object]] = {
        "infer": ["infer", folder, "--model", blocks.int8],
        "bench": ["bench", blocks.int8, "--seconds", 600],
        "refine": [
            "refine",
            blocks.fp32,
            blocks.int8,
            "--calib",
            folder,
            "--calib-count",
            3000,
            "--out",
            "out/a.tflite",
        ],
        "compare": ["compare", blocks.fp32, blocks.int8, "--data", folder, "--json", "out/a.json"],
    }
    code, said = interrupt(kind, 1.0 if name == "refine" else 2.0, *commands[name], folder=tmp_path)
    assert code == CODES[kind], said
    assert said.strip() == ("Interrupted." if kind == signal.SIGINT else "")
    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.accept
@pytest.mark.parametrize("kind", CODES, ids=lambda kind: kind.name)
@pytest.mark.parametrize("name", ["convert", "train", "calibrate"])
def test_long_work_of_tensorflow_ends_and_leaves_what_can_be_resumed(
    name: str, kind: signal.Signals, blocks_network: Path, photos: Path, tmp_path: Path
) -> None:
    (tmp_path / "out").mkdir()
    small = ["--from-scratch", "--res", 32, "--alpha", 0.35]
    commands: dict[str, list[object]] = {
        "convert": [
            "convert",
            "--int8",
            "--calib",
            many(photos, tmp_path / "many", 5000),
            "--calib-count",
            5000,
            "--out",
            "out",
        ],
        "train": ["train", photos, "--out", "out/net.keras", *small, "--epochs", 5000],
        "calibrate": [
            "calibrate",
            "synthesize",
            "bundled.keras",
            "--out",
            "out/images",
            "--count",
            100,
            "--steps",
            9999,
        ],
    }
    if name == "calibrate":
        made = subprocess.run(
            [
                sys.executable,
                "-m",
                "edgeq",
                "train",
                photos,
                "--out",
                tmp_path / "bundled.keras",
                *map(str, small),
                "--epochs",
                "1",
            ],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            check=False,
        )
        assert made.returncode == 0
    code, said = interrupt(kind, 40.0 if name == "train" else 15.0, *commands[name], folder=tmp_path)
    assert code == CODES[kind], said
    message = r"^The training is saved\. To continue:\n  edgeq train .* --resume$"
    assert (re.search(message, said, re.MULTILINE) is not None) == (name == "train")
    assert {path.name for path in (tmp_path / "out").iterdir()} == (
        {"net.keras.training"} if name == "train" else set()
    )
