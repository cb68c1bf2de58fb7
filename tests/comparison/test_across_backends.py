"""One model in several places."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished

from edgeq.comparison.across_backends import Agreement, compare_places
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.backend import LocalPlace
from edgeq.report.across_backends import agreement_lines
from edgeq.runtime import Model, installed_runtimes

RUNTIMES = [name for name in ("ai-edge-litert", "tflite-runtime") if name in installed_runtimes()]


@pytest.fixture(scope="module")
def model(mobilenet_models: Path) -> Model:
    return Model(mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite")


def compared(model: Model, photos: Path, places: list[LocalPlace]) -> Agreement:
    try:
        return compare_places(model, photos, places)
    finally:
        for place in places:
            place.close()


@pytest.fixture(scope="module")
def agreement(model: Model, photos: Path) -> Agreement:
    places = [LocalPlace(model.path, name, "reference") for name in RUNTIMES]
    return compared(model, photos, [*places, LocalPlace(model.path, RUNTIMES[0], "default")])


def test_reference_kernels_give_the_same_bytes_everywhere(agreement: Agreement) -> None:
    for place in agreement.places[: len(RUNTIMES)]:
        assert (place.differing_values, place.largest_difference, place.flips) == (0, 0, ())
        assert (place.images, place.values) == (36, 360)


def test_the_counts_are_those_of_the_outputs(agreement: Agreement, model: Model, photos: Path) -> None:
    reference = Model(model.path, kernels="reference")
    default = Model(model.path, runtime=RUNTIMES[0])
    differences = []
    for photo in sorted(photos.rglob("*.jpg")):
        tensor = model.tensor(model.preprocessing.pixels(photo))
        differences.append(reference.invoke(tensor).astype(int) - default.invoke(tensor).astype(int))
    found = agreement.places[-1]
    assert found.differing_values == np.count_nonzero(differences)
    assert found.largest_difference == np.abs(differences).max()
    assert found.differing_images == sum(np.any(d) for d in differences)


def test_floats_are_told_in_their_own_unit(colour_models: Path, photos: Path) -> None:
    model = Model(colour_models / "colours_fp32.tflite")
    found = compared(model, photos, [LocalPlace(model.path, None, k) for k in ("reference", "default")])
    assert found.places[1].largest_difference < 1e-5


def test_the_lines_fit(agreement: Agreement) -> None:
    for width in (60, 80, 120):
        lines = agreement_lines(agreement, width)
        assert max(map(len, lines)) <= width
    assert any("0 of 360" in line or "(reference)" in line for line in agreement_lines(agreement, 100))


def test_json(agreement: Agreement) -> None:
    found = json.loads(json.dumps(agreement.to_json()))
    assert found["images"] == 36
    assert found["places"][0]["kernels"] == "reference"


def test_a_place_that_dies_drops_out_and_the_rest_go_on(model: Model, photos: Path) -> None:
    places = [LocalPlace(model.path, None, kernels) for kernels in ("reference", "default", "built-in")]
    places[1]._process.kill()
    found = compared(model, photos, places)
    assert [place.images for place in found.places] == [36, 0, 36]
    assert "ended with exit code" in str(found.places[1].error)
    assert any("failed" in line for line in agreement_lines(found, 80))


def test_the_reference_must_not_die(model: Model, photos: Path) -> None:
    place = LocalPlace(model.path, None, "reference")
    place._process.kill()
    with pytest.raises(EdgeqError, match="ended with exit code"):
        compared(model, photos, [place])


def test_no_images(model: Model, tmp_path: Path) -> None:
    for name, message in (
        ("a.txt", "holds no images, only 1 other files"),
        ("a.jpg", "none of its 1 files is an image"),
    ):
        (tmp_path / name).write_text("no image")
        with pytest.raises(InputError, match=message):
            compared(model, tmp_path, [LocalPlace(model.path, None, "reference")])


def test_the_command(mobilenet_models: Path, photos: Path, edgeq: Callable[..., Finished], tmp_path: Path) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    runtimes = [argument for name in RUNTIMES for argument in ("--runtime", name)]
    done = edgeq("compare", model, "--data", photos, *runtimes, "--json", tmp_path / "a.json")
    assert (done.code, done.err) == (0, "")
    assert "on 36 images, the same tensors everywhere" in done.out
    places = json.loads((tmp_path / "a.json").read_text())["places"]
    assert [(p["runtime"].split()[0], p["kernels"]) for p in places[1:]] == [(name, "default") for name in RUNTIMES]
    for wrong in (["--max-drop", "0.1"], ["--min-agreement", "0.9"]):
        assert "compare two models" in edgeq("compare", model, "--data", photos, *wrong).err
    assert "in several places" in edgeq("compare", model, model, "--data", photos, "--on", "a", "--on", "b").err
