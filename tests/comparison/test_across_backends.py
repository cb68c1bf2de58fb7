"""One model on several execution backends."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished

from edgeq.comparison.across_backends import BackendComparison, compare_backends, compare_open_backends
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.backend import WorkerBackend
from edgeq.report.across_backends import backend_comparison_lines
from edgeq.runtime import Model, installed_runtimes

RUNTIMES = [name for name in ("ai-edge-litert", "tflite-runtime") if name in installed_runtimes()]


@pytest.fixture(scope="module")
def model(mobilenet_models: Path) -> Model:
    return Model(mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite")


def compared(model: Model, photos: Path, backends: list[WorkerBackend]) -> BackendComparison:
    try:
        return compare_open_backends(model, photos, backends)
    finally:
        for backend in backends:
            backend.close()


@pytest.fixture(scope="module")
def comparison(model: Model, photos: Path) -> BackendComparison:
    backends = [WorkerBackend(model.path, name, kernels="reference") for name in RUNTIMES]
    return compared(model, photos, [*backends, WorkerBackend(model.path, RUNTIMES[0])])


def test_reference_kernels_give_the_same_bytes_everywhere(comparison: BackendComparison) -> None:
    for backend in comparison.backends[: len(RUNTIMES)]:
        assert (backend.differing_values, backend.largest_difference, backend.flips) == (0, 0, ())
        assert (backend.images, backend.values) == (36, 360)


def test_the_counts_are_those_of_the_outputs(comparison: BackendComparison, model: Model, photos: Path) -> None:
    reference = Model(model.path, kernels="reference")
    default = Model(model.path, runtime=RUNTIMES[0])
    differences = []
    for photo in sorted(photos.rglob("*.jpg")):
        tensor = model.tensor(model.preprocessing.pixels(photo))
        differences.append(reference.invoke(tensor).astype(int) - default.invoke(tensor).astype(int))
    found = comparison.backends[-1]
    assert found.differing_values == np.count_nonzero(differences)
    assert found.largest_difference == np.abs(differences).max()
    assert found.differing_images == sum(np.any(d) for d in differences)


def test_floats_are_told_in_their_own_unit(colour_models: Path, photos: Path) -> None:
    model = Model(colour_models / "colours_fp32.tflite")
    found = compared(model, photos, [WorkerBackend(model.path, kernels=k) for k in ("reference", "default")])
    assert found.backends[1].largest_difference < 1e-5


def test_the_lines_fit(comparison: BackendComparison) -> None:
    for width in (60, 80, 120):
        lines = backend_comparison_lines(comparison, width)
        assert max(map(len, lines)) <= width
    assert any("0 of 360" in line or "(reference)" in line for line in backend_comparison_lines(comparison, 100))


def test_json(comparison: BackendComparison) -> None:
    found = json.loads(json.dumps(comparison.to_json()))
    assert found["images"] == 36
    assert found["places"][0]["kernels"] == "reference"


def test_a_backend_that_dies_drops_out_and_the_rest_go_on(model: Model, photos: Path) -> None:
    backends = [WorkerBackend(model.path, kernels=kernels) for kernels in ("reference", "default", "built-in")]
    backends[1]._process._process.kill()
    found = compared(model, photos, backends)
    assert [backend.images for backend in found.backends] == [36, 0, 36]
    (error,) = found.errors
    assert str(model.path) in error
    assert "was killed (signal 9)" in error
    assert any("failed" in line for line in backend_comparison_lines(found, 80))


def test_the_reference_must_not_die(model: Model, photos: Path) -> None:
    backend = WorkerBackend(model.path, kernels="reference")
    backend._process._process.kill()
    with pytest.raises(EdgeqError, match="was killed"):
        compared(model, photos, [backend])


def test_the_job(model: Model, photos: Path) -> None:
    steps = []
    found = compare_backends(
        model.path, photos, runtimes=RUNTIMES, progress=lambda stage, done, total: steps.append((stage, done, total))
    )
    kernels = ["reference", *("default" for _ in RUNTIMES)]
    assert [(b.name, b.kernels) for b in found.backends] == [("here", name) for name in kernels]
    assert [b.runtime.split()[0] for b in found.backends[1:]] == RUNTIMES
    assert (found.images, found.errors) == (36, ())
    assert steps[-1] == ("Comparing", 36, 36)


def test_the_job_closes_what_it_opened_where_a_runtime_is_missing(model: Model, photos: Path) -> None:
    before = children()
    with pytest.raises(EdgeqError, match="no-such-runtime"):
        compare_backends(model.path, photos, runtimes=["no-such-runtime"])
    assert children() == before


def test_no_device_is_contacted_in_vain(model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    client = tmp_path / "ssh"
    client.write_text(f"#!/bin/sh\ntouch {tmp_path}/contacted\nexit 255\n")
    client.chmod(0o755)
    monkeypatch.setenv("EDGEQ_SSH", str(client))
    (tmp_path / "photos").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        compare_backends(model.path, tmp_path / "photos", on=["pi@kitchen"])
    assert not (tmp_path / "contacted").exists()


def children() -> set[str]:
    return set(Path(f"/proc/self/task/{os.getpid()}/children").read_text().split())


def test_no_images(model: Model, tmp_path: Path) -> None:
    for name, message in (
        ("a.txt", "holds no images, only 1 other files"),
        ("a.jpg", "none of its 1 images can be read"),
    ):
        (tmp_path / name).write_text("no image")
        with pytest.raises(InputError, match=message):
            compared(model, tmp_path, [WorkerBackend(model.path)])


def test_the_command(mobilenet_models: Path, photos: Path, edgeq: Callable[..., Finished], tmp_path: Path) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    runtimes = [argument for name in RUNTIMES for argument in ("--runtime", name)]
    done = edgeq("compare", model, "--data", photos, *runtimes, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    assert "on 36 images, same input tensors" in done.out
    places = json.loads((tmp_path / "a.json").read_text())["places"]
    assert [(p["runtime"].split()[0], p["kernels"]) for p in places[1:]] == [(name, "default") for name in RUNTIMES]
    for wrong in (["--max-drop", "0.1"], ["--min-agreement", "0.9"]):
        assert "need two models" in edgeq("compare", model, "--data", photos, *wrong).err
    assert "one MODEL" in edgeq("compare", model, model, "--data", photos, "--on", "a", "--on", "b").err
