"""``edgeq inspect``: what it prints, and how it exits."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished

from cli import error_of

Run = Callable[..., Finished]


def test_the_page(colour_models: Path, edgeq: Run) -> None:
    done = edgeq("inspect", colour_models / "colours_int8.tflite")
    assert (done.code, done.err) == (0, "")
    for part in ("input ", "1x32x32x3", "-0.9961 to 1.004", "CONV_2D", "Full integer", "blue, green, red"):
        assert part in done.out
    assert max(map(len, done.out.splitlines()[1:])) <= 80


def test_json_is_what_was_found(colour_models: Path, edgeq: Run, tmp_path: Path) -> None:
    path = colour_models / "colours_fp32.tflite"
    found = json.loads(edgeq("inspect", path, "--target", "edgetpu", "--json", "-").out)
    assert found["multiply_adds"] == 36_873
    assert found["full_integer"] is False
    assert found["targets"][0]["target"] == "edgetpu"
    done = edgeq("inspect", path, "--json", tmp_path / "m.json")
    assert done.code == 0
    assert json.loads((tmp_path / "m.json").read_text())["sha256"] == found["sha256"]


@pytest.mark.parametrize(
    ("name", "target", "code"),
    [("int8", "tflite-runtime==2.14", 0), ("int8", "edgetpu", 0), ("fp32", "edgetpu", 1)],
)
def test_targets_are_a_gate(name: str, target: str, code: int, colour_models: Path, edgeq: Run) -> None:
    done = edgeq("inspect", colour_models / f"colours_{name}.tflite", "--target", target)
    assert (done.code, done.err) == (code, "")
    assert f"\n{target}: " in done.out
    assert "Source: " in done.out
    assert ("works on float32" in done.out) is (code == 1)


def test_errors(colour_models: Path, edgeq: Run, tmp_path: Path) -> None:
    assert "no such model file" in error_of(edgeq("inspect", tmp_path / "none.tflite"))
    assert "must be one of" in error_of(edgeq("inspect", colour_models / "colours_int8.tflite", "--target", "gpu"))


class TestConvertForATarget:
    @pytest.mark.accept
    def test_a_dense_layer_is_kept_old_enough(self, edgeq: Run, tmp_path: Path) -> None:
        network = ["--res", 32, "--alpha", 0.35, "--classes", 10, "--weights", "none", "--dynamic"]
        done = edgeq("convert", *network, "--out", tmp_path, "--target", "tflite-runtime==2.14")
        assert done.code == 0, done.err
        assert "tflite-runtime==2.14: no known problem" in done.out
        done = edgeq("convert", *network, "--out", tmp_path, "--target", "ai-edge-litert", "--target", "edgetpu")
        assert done.code == 1
        assert "ai-edge-litert: no known problem" in done.out
        assert "CONV_2D (35 times): works on float32" in done.out

    def test_unknown_ones_are_found_before_anything_is_done(self, edgeq: Run, tmp_path: Path) -> None:
        assert "must be one of" in error_of(edgeq("convert", "--int8", "--target", "gpu", "--out", tmp_path / "m"))
        assert not (tmp_path / "m").exists()
