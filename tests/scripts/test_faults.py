"""scripts/kill-test and scripts/fuzz-pictures: a few kills and pictures; scripts/accept runs them at full length."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT


def script(name: str, *arguments: object) -> str:
    command = [sys.executable, str(ROOT / "scripts" / name), *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    print(done.stdout, done.stderr[-1000:])
    assert done.returncode == 0, done.stdout
    return done.stdout


def test_pictures(colour_models: Path) -> None:
    said = script("fuzz-pictures", "--count", 100, "--model", colour_models / "colours_int8.tflite", "--hostile", 0)
    assert "100 mutated pictures (seed 0): " in said
    assert said.endswith("0 problems\n")


@pytest.mark.accept
def test_ten_thousand_pictures(colour_models: Path) -> None:
    said = script("fuzz-pictures", "--model", colour_models / "colours_int8.tflite")
    assert said.endswith("0 problems\n")


@pytest.mark.accept
@pytest.mark.slow
def test_kills() -> None:
    pytest.importorskip("tensorflow")
    assert "0 lost, 0 half-written, 0 litter" in script("kill-test", "bundle", "device setup", "--kills", 4)


@pytest.mark.accept
def test_two_hundred_kills() -> None:
    pytest.importorskip("tensorflow")
    assert "0 lost, 0 half-written, 0 litter" in script("kill-test")
