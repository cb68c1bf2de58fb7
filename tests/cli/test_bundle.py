"""``edgeq bundle``: what it prints, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

from conftest import Finished

from cli import error_of

Run = Callable[..., Finished]


def test_a_folder_and_a_c_array(colour_models: Path, edgeq: Run, tmp_path: Path) -> None:
    model = colour_models / "colours_int8.tflite"
    done = edgeq("bundle", model, "-o", tmp_path / "b")
    assert (done.code, done.err) == (0, "")
    assert re.fullmatch(r".*/b  [\d.]+ [kM]B, 11 files; self-test passed on this machine\n", done.out)
    done = edgeq("bundle", model, "-o", tmp_path / "c", "--c-array")
    assert [Path(line).name for line in done.out.splitlines()] == ["colours_int8.h", "colours_int8.c"]


def test_errors(colour_models: Path, edgeq: Run, tmp_path: Path) -> None:
    model = colour_models / "colours_int8.tflite"
    assert "no such model file" in error_of(edgeq("bundle", tmp_path / "none.tflite", "-o", tmp_path / "b"))
    assert "must be like" in error_of(edgeq("bundle", model, "-o", tmp_path / "b", "--wheels", "pi"))
    assert "into a folder" in error_of(edgeq("bundle", model, "-o", tmp_path / "b.zip", "--c-array"))
    error = error_of(edgeq("bundle", colour_models / "colours_fp32.tflite", "-o", "/proc/nowhere/b"))
    assert re.match(r"/proc/nowhere(/b)?: cannot write", error)
    assert list(tmp_path.iterdir()) == []
