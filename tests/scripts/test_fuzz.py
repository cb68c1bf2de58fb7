"""edgeq on damaged models: no crash, no hang, no traceback; and what is harmless is accepted."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT

RUNTIMES = {"ai-edge-litert": "ai_edge_litert", "tflite-runtime": "tflite_runtime"}


def fuzz(runtime: str, models: Sequence[Path], count: int, real: int = 0) -> dict[str, Any]:
    """The counts that scripts/fuzz prints; it exits with 1 if there is a fault."""
    if importlib.util.find_spec(RUNTIMES[runtime]) is None:
        pytest.skip(f"{runtime} is not installed")
    command = [sys.executable, str(ROOT / "scripts" / "fuzz"), "--seed", "20261122", "--count", str(count)]
    done = subprocess.run(
        [*command, "--real", str(real), "--runtime", runtime, *map(str, models)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found: dict[str, Any] = json.loads(done.stdout)
    return found


@pytest.mark.slow
@pytest.mark.sampled(1)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_a_few_mutants(runtime: str, colour_models: Path) -> None:
    found = fuzz(runtime, [colour_models / f"colours_{form}.tflite" for form in ("int8", "fp32")], count=30)
    assert found["clean"] >= 3
    assert found["infer exits with 2"] >= 10
    assert found["faults"] == []


@pytest.mark.accept
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_ten_thousand_mutants(runtime: str, mobilenet_models: Path, shared: Path) -> None:
    models = shared / "models"
    files = [*mobilenet_models.glob("*.tflite"), models / "coral/tf2_mobilenet_v2_1.0_224_ptq.tflite"]
    files += [models / "torchvision/mobilenet_v2_0.35_96_nhwc.tflite", models / "tflm/person_detect.tflite"]
    found = fuzz(runtime, [*files, models / "mlcommons_tiny/kws_ref_model.tflite"], count=10_000, real=300)
    assert found["faults"] == []
    assert found["accepted_of_clean"] >= 0.95
