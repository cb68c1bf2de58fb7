"""A board with Python 3.13, for which there is no tflite-runtime: with ai-edge-litert, from end to end."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from .conftest import Board, run

pytestmark = pytest.mark.accept


@pytest.fixture(scope="module")
def ready(newer_board: Board, newer_wheels: Path) -> Board:
    done = run(newer_board, "device", "setup", newer_board.host, "--wheels", newer_wheels)
    assert (done.code, done.err) == (0, "")
    assert "Runtime: ai-edge-litert 2." in done.out
    return newer_board


def test_info(ready: Board) -> None:
    found = json.loads(run(ready, "device", "info", ready.host, "--json").out)
    assert found["python"].startswith("3.13.")
    assert list(found["runtimes"]) == ["ai-edge-litert"]


def test_20_photos_byte_for_byte_under_the_reference_kernels(
    ready: Board,
    mobilenet_models: Path,
    photos_20: Path,
) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    done = run(ready, "compare", model, "--data", photos_20, "--on", ready.host, "--json", "-")
    assert (done.code, done.err) == (0, "")
    _, _, reference, default = json.loads(done.out)["places"]
    assert reference["runtime"].startswith("ai-edge-litert 2.")
    assert (reference["kernels"], reference["images"], reference["differing_values"]) == ("reference", 20, 0)
    assert (default["kernels"], default["images"]) == ("default", 20)


def test_infer_with_everything_done_there(ready: Board, colour_models: Path, photos_20: Path) -> None:
    arguments = ["infer", photos_20 / "01.jpg", "-m", colour_models / "colours_int8.tflite", "--top", 1]
    done = run(ready, *arguments, "--on", ready.host, "--images")
    assert (done.code, done.err) == (0, "")
    assert "green" in done.out


def test_bench(ready: Board, mobilenet_models: Path) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    done = run(ready, "bench", model, "--on", ready.host, "--threads", 1, "--seconds", 0.1, "--json", "-")
    assert (done.code, done.err) == (0, "")
    (device,) = json.loads(done.out)["devices"]
    assert {line["runtime"].split()[0] for line in device["benchmark"]["measurements"]} == {"ai-edge-litert"}


def test_remove(ready: Board) -> None:
    done = run(ready, "device", "remove", ready.host)
    assert (done.code, done.err) == (0, "")
    assert not ready.home.exists()
