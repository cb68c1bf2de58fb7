"""The command line with models of plain tensors."""

from __future__ import annotations

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import Finished

import edgeq as package
from edgeq.comparison import compare_backends
from tensors.conftest import Pair
from tensors.networks import FloatModel

Run = Callable[..., Finished]


@pytest.fixture
def pair(pairs: dict[str, Pair]) -> Pair:
    return pairs["two_by_two"]


def test_convert_by_the_data_alone(edgeq: Run, float_models: dict[str, FloatModel], tmp_path: Path) -> None:
    """The keyword spotter's shapes are those of a classifier of images; .npz files say that it is none."""
    model = float_models["keyword_spotter"]
    done = edgeq("convert", model.path, "--int8", "--calib", model.data, "--out", tmp_path)
    assert done.code == 0, done.err
    assert f"Calibrated on 20 samples from {model.data} (seed 0)." in done.out
    assert "Error of the outputs on 4 held-out samples" in done.out
    assert "class" not in done.out
    done = edgeq("convert", model.path, "--int8", "--out", tmp_path)
    assert done.code == 2
    assert "does not say how its input is normalized" in done.err
    done = edgeq("convert", model.path, "--int8", "--task", "tensors", "--out", tmp_path)
    assert done.code == 2
    assert "give --normalize" in done.err or "needs calibration data" in done.err


def test_compare(edgeq: Run, pair: Pair, tmp_path: Path) -> None:
    files = {name: tmp_path / f"drift.{name}" for name in ("json", "md", "html")}
    done = edgeq(
        *("compare", pair.fp32, pair.int8, "--data", pair.data, "--layers", "--json", files["json"]),
        *("--markdown", files["md"], "--report", files["html"], "--min-sqnr", 5),
    )
    assert done.code == 0, done.err
    for text in ("angles", "mask", "20 samples, the 5 worst:", "SQNR of angles", "SQNR in dB of 10 layers"):
        assert text in done.out
    found = json.loads(files["json"].read_text())
    assert found["task"] == "tensors"
    assert {drift["name"] for drift in found["outputs"]} == {"mask", "angles"}
    assert (
        files["md"].read_text().startswith("## Quantization drift: within limits\n\nThe lowest SQNR of 2 outputs is ")
    )
    page = files["html"].read_text()
    for text in ("Drift of the outputs on", "Sample by sample", "Layer by layer", "<bdi>angles</bdi>", "--min-sqnr 5"):
        assert text in page
    assert "top-1" not in page


def test_a_missed_limit(edgeq: Run, pair: Pair, tmp_path: Path) -> None:
    done = edgeq(
        "compare", pair.fp32, pair.int8, "--data", pair.data, "--min-sqnr", 90, "--markdown", tmp_path / "d.md"
    )
    assert done.code == 1
    assert done.err.count("Missed: SQNR of ") == 2
    assert "limits missed" in (tmp_path / "d.md").read_text()


@pytest.mark.parametrize("option", [("--max-drop", 0.1), ("--min-agreement", 0.9), ("--labels", "names.txt")])
def test_options_for_classifiers_only(edgeq: Run, pair: Pair, tmp_path: Path, option: tuple[object, ...]) -> None:
    (tmp_path / "names.txt").write_text("a\nb\n")
    done = edgeq("compare", pair.fp32, pair.int8, "--data", pair.data, *option, cwd=tmp_path)
    assert done.code == 2
    assert f"{option[0]}: only for image classifiers" in done.err


def test_options_for_tensors_only(edgeq: Run, colour_models: Path, photos: Path) -> None:
    models = colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite"
    done = edgeq("compare", *models, "--data", photos, "--min-sqnr", 30)
    assert done.code == 2
    assert "--min-sqnr: only for models of plain tensors" in done.err
    done = edgeq("infer", photos, "--model", models[1], "--out", "x.npz")
    assert done.code == 2
    assert "--out: only for models of plain tensors" in done.err


def test_a_classifier_as_plain_tensors(edgeq: Run, colour_models: Path, photos: Path) -> None:
    models = colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite"
    done = edgeq("compare", *models, "--data", photos, "--task", "tensors", "--json", "-")
    assert done.code == 0, done.err
    assert json.loads(done.out)["samples"] == 36


def test_compare_runtimes(pair: Pair) -> None:
    result = compare_backends(pair.int8, pair.data)
    assert result.images == 20
    assert [backend.error for backend in result.backends] == [None, None]
    assert result.backends[1].values == 20 * (16 * 16 + 2)
    assert result.backends[1].largest_difference <= 2
    assert not result.backends[1].flips


def test_infer(edgeq: Run, pair: Pair, float_models: dict[str, FloatModel], tmp_path: Path) -> None:
    files = sorted(float_models["two_by_two"].calibration.glob("*.npz"))[:2]
    done = edgeq("infer", *files, "--model", pair.int8, "--out", tmp_path / "out.npz")
    assert done.code == 0, done.err
    heading, first, second, *_ = done.out.splitlines()
    assert heading.split() == ["sample", "output", "shape", "min", "max", "mean"]
    assert first.split()[0] == "000.npz"
    assert {first.split()[1], second.split()[0]} == {"angles", "mask"}
    model = package.TensorModel(pair.int8)
    with np.load(tmp_path / "out.npz") as found:
        assert found["mask"].shape == (2, 16, 16, 1)
        for number, file in enumerate(files):
            with np.load(file) as arrays:
                expected = model.answer(dict(arrays))
            np.testing.assert_allclose(found["angles"][number], expected["angles"][0], rtol=1e-6)


def test_infer_goes_on_after_a_bad_file(
    edgeq: Run, pair: Pair, float_models: dict[str, FloatModel], tmp_path: Path
) -> None:
    shutil.copy(float_models["two_by_two"].calibration / "000.npz", tmp_path / "good.npz")
    np.savez(tmp_path / "bad.npz", state=np.zeros(6))
    done = edgeq("infer", tmp_path, "--model", pair.int8, "--json", "--time")
    assert done.code == 2
    assert done.err.startswith(f"Error: {tmp_path}/bad.npz: has no array picture (the model's inputs: ")
    assert done.err.count("\n") == 1
    bad, good = map(json.loads, done.out.splitlines())
    assert "has no array picture" in bad["error"]
    assert good["outputs"]["angles"]["shape"] == [1, 2]
    assert good["times_ms"]["invoke"] > 0


def test_inspect_and_bench(edgeq: Run, pairs: dict[str, Pair]) -> None:
    for pair in pairs.values():
        done = edgeq("inspect", pair.int8)
        assert done.code == 0, done.err
        for spec in (*package.TensorModel(pair.int8).inputs, *package.TensorModel(pair.int8).outputs):
            assert f" {spec.name} " in done.out
        assert "Full integer" in done.out
        assert "calibration: count 40, seed 0" in done.out
    models = [pairs[name].int8 for name in ("two_by_two", "detector")]
    result = package.bench(models, runtimes=["ai-edge-litert"], threads=[1], seconds=0.05)
    assert {measurement.model for measurement in result.measurements} == set(map(str, models))
    assert not result.failures


def test_c_array(edgeq: Run, pair: Pair, tmp_path: Path) -> None:
    done = edgeq("bundle", pair.int8, "--out", tmp_path / "c", "--c-array")
    assert done.code == 0, done.err
    header = (tmp_path / "c" / "two_by_two_int8.h").read_text()
    for text in ("#define TWO_BY_TWO_INT8_INPUTS 2", "_OUTPUT_1_ZERO_POINT", "picture, int8 of shape 1x16x16x3"):
        assert text in header
    if compiler := shutil.which("cc"):
        source = tmp_path / "c" / "two_by_two_int8.c"
        subprocess.run([compiler, "-Wall", "-Wextra", "-Werror", "-c", source, "-o", tmp_path / "m.o"], check=True)
    done = edgeq("bundle", pair.int8, "--out", tmp_path / "b")
    assert done.code == 2
    assert "can only be written with --c-array" in done.err
