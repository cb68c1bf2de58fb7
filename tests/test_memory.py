"""Memory: what commands use above their libraries, and what happens if it is short."""

from __future__ import annotations

import os
import subprocess
import sys
from functools import partial
from pathlib import Path

import pytest
from conftest import ROOT

from edgeq.bundling import bundle
from edgeq.errors import ImageError, ModelError
from edgeq.execution.backend import WorkerBackend
from edgeq.images import decode
from edgeq.inference import classify_all
from edgeq.inference.in_parallel import copies_that_fit
from edgeq.inspection import inspect
from edgeq.memory import available_bytes
from edgeq.runtime import Model
from edgeq.runtime.admission import require_memory
from edgeq.tflite.known import known_files

MOST_BYTES = 64e6
PEAK = """
import atexit, sys
def peak():
    lines = open("/proc/self/status").read().splitlines()
    print(next(line for line in lines if line.startswith("VmHWM:")).split()[1], file=sys.stderr)
atexit.register(peak)
"""
LIBRARIES = "import numpy, PIL.Image, PIL.ImageOps, ai_edge_litert.interpreter"
RUN = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.{}(sys.argv[0], run_name='__main__')"


def peak_bytes(code: str, *arguments: object) -> int:
    """Peak memory of a program, which `getrusage` would give only together with that of this process."""
    done = subprocess.run(
        [sys.executable, "-c", PEAK + code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        check=True,
    )
    return int(done.stderr.split()[-1]) * 1024


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="reads the peak from /proc")
def test_64_mb_above_the_libraries_are_enough(mobilenet_models: Path, photos: Path, tmp_path: Path) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    made = bundle(model, tmp_path / "bundle")
    photo, libraries = photos / "red" / "00.jpg", peak_bytes(LIBRARIES)
    one = ("--threads", 1, "--runtime", "ai-edge-litert")
    runs = {
        "infer": peak_bytes(RUN.format("run_module"), "edgeq", "infer", photo, "--model", model),
        "infer of a folder": peak_bytes(RUN.format("run_module"), "edgeq", "infer", photos, "--model", model),
        "run.py": peak_bytes(RUN.format("run_path"), made.path / "run.py", photo),
        "bench": peak_bytes(RUN.format("run_module"), "edgeq", "bench", model, "--seconds", 0.01, *one),
    }
    with WorkerBackend(model, "ai-edge-litert") as board:  # on a device, the same process runs the model
        spec = Model(model).preprocessing
        board.ask("run_image", image=str(photo), preprocessing=[spec.mean, spec.std, spec.channels, spec.crop])
        peak = board.time(0).peak_rss_bytes
        assert peak is not None
        runs["the process on a board"] = peak
    assert {name: peak - libraries for name, peak in runs.items() if peak - libraries > MOST_BYTES} == {}


def test_a_model_that_does_not_fit_is_reported_before_it_is_loaded(
    mobilenet_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    known_files.cache_clear()
    model = mobilenet_models / "mobilenet_v2_0.35_96_fp32.tflite"
    enough = model.stat().st_size + inspect(model).peak_activation_bytes
    for room in (enough, 2 * enough, 2 * enough, enough):
        monkeypatch.setattr("edgeq.runtime.admission.available_bytes", partial(int, room))
        require_memory(model)
    monkeypatch.setattr("edgeq.runtime.admission.available_bytes", lambda: enough - 1)
    with pytest.raises(
        ModelError, match=rf"fp32.tflite: needs at least {enough / 1e6:.0f} MB of memory, and \d MB are"
    ):
        Model(model)
    known_files.cache_clear()


def test_an_image_that_does_not_fit_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from PIL import Image

    Image.new("L", (9000, 9000)).save(tmp_path / "large.png")
    monkeypatch.setattr("edgeq.image_limits.available_bytes", lambda: 10**8)
    with pytest.raises(ImageError, match=r"large.png: needs 648 MB of memory, and 100 MB are available"):
        decode(tmp_path / "large.png")


def test_fewer_copies_where_memory_is_short(colour_models: Path, photos: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = colour_models / "colours_int8.tflite"
    assert copies_that_fit(model, 4) == 4
    expected = [result.predictions for result in classify_all(photos, model, threads=4)]
    monkeypatch.setattr("edgeq.inference.in_parallel.available_bytes", lambda: 12 * model.stat().st_size)
    assert copies_that_fit(model, 4) == 2
    monkeypatch.setattr("edgeq.inference.in_parallel.available_bytes", lambda: 10)
    assert copies_that_fit(model, 4) == 1
    assert [result.predictions for result in classify_all(photos, model, threads=4)] == expected


def test_what_is_available() -> None:
    available = available_bytes()
    assert available is None or 10e6 < available < 1e13
