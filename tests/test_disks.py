"""Disks that are full or read-only: one sentence, exit code 2, and the old files as they were."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT, Finished, IntegerPair

Run = Callable[..., Finished]


@contextlib.contextmanager
def disk(folder: Path, *options: str) -> Iterator[Path]:
    """A small disk of its own, which root can mount."""
    folder.mkdir()
    mounted = shutil.which("mount") and subprocess.run(
        ["mount", "-t", "tmpfs", "-o", ",".join(options), "tmpfs", folder], capture_output=True, check=False
    )
    if not mounted or mounted.returncode:
        pytest.skip("a small disk takes root to mount")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "-l", folder], check=True)


@pytest.fixture
def full(tmp_path: Path) -> Iterator[Path]:
    """A disk with 8 kB left."""
    with disk(tmp_path / "full", "size=1m") as folder:
        (folder / "other").write_bytes(bytes((1 << 20) - 8192))
        yield folder


@pytest.fixture
def closed(tmp_path: Path) -> Iterator[Path]:
    """A disk that cannot be written to, with an older result."""
    with disk(tmp_path / "closed", "size=1m") as folder:
        (folder / "old.tflite").write_text("old")
        subprocess.run(["mount", "-o", "remount,ro", folder], check=True)
        yield folder


def commands(blocks: IntegerPair, colour_models: Path, photos: Path, out: Path) -> dict[str, list[object]]:
    model = colour_models / "colours_int8.tflite"
    photo = photos / "red" / "00.jpg"
    return {
        "refine": [
            "refine",
            blocks.fp32,
            blocks.int8,
            "--calib",
            photos,
            "--calib-count",
            10,
            "--out",
            out / "old.tflite",
        ],
        "bundle": ["bundle", model, "--out", out / "bundle"],
        "bundle.zip": ["bundle", model, "--out", out / "bundle.zip"],
        "compare": [
            "compare",
            *sorted(colour_models.glob("colours_??[p8]*.tflite"))[:2],
            "--data",
            photos,
            "--report",
            out / "page.html",
        ],
        "infer": ["infer", photo, "--model", model],
    }


def error_of(done: Finished) -> str:
    (line,) = done.err.splitlines()
    assert done.code == 2
    return line.removeprefix("Error: ")


@pytest.mark.parametrize("name", ["refine", "bundle", "bundle.zip"])
def test_a_full_disk(name: str, full: Path, blocks: IntegerPair, colour_models: Path, photos: Path, edgeq: Run) -> None:
    (full / "old.tflite").write_bytes(b"old")
    before = {path: path.read_bytes() for path in full.iterdir()}
    done = edgeq(*commands(blocks, colour_models, photos, full)[name])
    said = error_of(done)
    assert str(full) in said
    assert "No space left on device" in said
    assert {path: path.read_bytes() for path in full.iterdir()} == before


@pytest.mark.parametrize("name", ["refine", "bundle", "bundle.zip"])
def test_a_disk_that_cannot_be_written_to(
    name: str, closed: Path, blocks: IntegerPair, colour_models: Path, photos: Path, edgeq: Run
) -> None:
    said = error_of(edgeq(*commands(blocks, colour_models, photos, closed)[name]))
    assert str(closed) in said
    assert "Read-only file system" in said
    assert [path.name for path in closed.iterdir()] == ["old.tflite"]


@pytest.mark.parametrize("name", ["refine", "bundle", "infer"])
def test_a_full_temporary_folder(
    name: str, full: Path, blocks: IntegerPair, colour_models: Path, photos: Path, tmp_path: Path, edgeq: Run
) -> None:
    """What needs none works; with one that is full, Python takes another."""
    (full / "rest").write_bytes(bytes(8192 - 4096))
    done = edgeq(*commands(blocks, colour_models, photos, tmp_path)[name], env={"TMPDIR": str(full)})
    assert (done.code, done.err) == (0, "")


@pytest.mark.slow
def test_a_home_that_cannot_be_written_to(closed: Path, photos: Path, colour_models: Path, edgeq: Run) -> None:
    """Caches, such as matplotlib's of fonts, are not needed."""
    model = colour_models / "colours_int8.tflite"
    caches = {"HOME": str(closed), "XDG_CACHE_HOME": str(closed), "XDG_CONFIG_HOME": str(closed), "MPLCONFIGDIR": ""}
    done = edgeq("infer", photos, "--model", model, "--top", 1, env=caches)
    assert (done.code, done.err) == (0, "")
    pair = [colour_models / "colours_fp32.tflite", model]
    page = photos.parent / "page.html"
    done = edgeq("compare", *pair, "--data", photos, "--report", page, env=caches)
    assert (done.code, done.err) == (0, "")
    page.unlink()


@pytest.mark.slow
def test_two_runs_into_one_folder_at_once(blocks: IntegerPair, tmp_path: Path) -> None:
    """Both succeed, and one of the two results is there as a whole."""
    command = [sys.executable, "-m", "edgeq", "bundle", str(blocks.int8), "--out", str(tmp_path / "bundle")]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    runs = [subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL) for _ in "ab"]
    assert [(run.communicate(timeout=120)[1], run.returncode) for run in runs] == [(b"", 0)] * 2
    assert [path.name for path in tmp_path.iterdir()] == ["bundle"]
    done = subprocess.run([sys.executable, tmp_path / "bundle" / "run.py", "--self-test"], check=False)
    assert done.returncode == 0


@pytest.mark.accept
@pytest.mark.parametrize(("name", "left"), [("train", 400 << 10), ("convert", 2 << 10)])
def test_a_full_disk_where_tensorflow_runs(name: str, left: int, full: Path, photos: Path, edgeq: Run) -> None:
    """No room for the state of a training; none for new models beside old ones."""
    pytest.importorskip("tensorflow")
    (full / "models").mkdir()
    (full / "models" / "m_int8.tflite").write_bytes(b"old")
    os.truncate(full / "other", (1 << 20) - 16384 - left)
    small: list[object] = ["--from-scratch", "--epochs", 1, "--network", "mobilenet_v3_small_minimalistic"]
    options = {
        "train": ["train", photos, "--res", 32, *small, "--out", full / "my.keras"],
        "convert": ["convert", "--res", 32, "--int8", "--out", full / "models"],
    }
    said = error_of(edgeq(*options[name]))
    assert str(full) in said
    assert "No space left on device" in said
    assert (full / "models" / "m_int8.tflite").read_bytes() == b"old"
    left_behind = {path.name for path in full.iterdir()} - {"models", "other"}
    assert left_behind <= {"my.keras.training"}  # from which it goes on when there is room
