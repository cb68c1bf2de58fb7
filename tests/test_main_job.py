"""The main job on real data: ImageNet's MobileNetV2 to INT8, and how far it drifted on photos it has not seen."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import NO_NETWORK, Finished

from edgeq.runtime import Model
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import read_metadata

pytest.importorskip("tensorflow")

Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def split(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The ImageNet samples: those to calibrate on (class index divisible by 4), and the others, with labels.csv."""
    source = shared / "data" / "imagenet_samples"
    calibration, evaluation = tmp_path_factory.mktemp("calibration"), tmp_path_factory.mktemp("evaluation")
    with (source / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        folder = calibration if int(row["class_index"]) % 4 == 0 else evaluation
        (folder / row["file"]).symlink_to(source / row["file"])
    (evaluation / "labels.csv").write_text((source / "labels.csv").read_text())
    assert len(rows) == 500
    return calibration, evaluation


@pytest.fixture(scope="module")
def models(split: tuple[Path, Path], shared: Path, tmp_path_factory: pytest.TempPathFactory, edgeq: Run) -> Path:
    """What ``edgeq convert --res 224 --int8 --calib`` makes."""
    folder = tmp_path_factory.mktemp("main_job")
    env = {**NO_NETWORK, "KERAS_HOME": str(shared / "weights" / "keras_home")}
    done = edgeq("convert", "--res", 224, "--int8", "--calib", split[0], cwd=folder, env=env)
    assert (done.code, done.err) == (0, "")
    assert "Calibrated on 100 images from" in done.out
    assert "bundled" not in done.out  # not the small network that stands in where these weights are missing
    return folder / "models"


def test_the_integer_file_is_integer_throughout(models: Path) -> None:
    path = models / "mobilenet_v2_1.0_224_int8.tflite"
    graph = read_graph(path)
    assert graph.dtypes(i for o in graph.operators for i in (*o.inputs, *o.outputs)) == {"int8", "int32"}
    names = [operator.name for operator in graph.operators]
    # The published architecture: 35 convolutions (one the stem, one the last), 17 depthwise ones, 10 shortcuts.
    assert (names.count("CONV_2D"), names.count("DEPTHWISE_CONV_2D"), names.count("ADD")) == (35, 17, 10)
    assert path.stat().st_size < 0.3 * (models / "mobilenet_v2_1.0_224_fp32.tflite").stat().st_size
    metadata = read_metadata(path)
    assert len(metadata.labels) == 1000
    assert metadata.provenance["parent"]["weights"] == "imagenet"


def test_it_drifts_no_further_than_it_should(models: Path, split: tuple[Path, Path], edgeq: Run) -> None:
    done = edgeq("compare", "--data", split[1], "--json", "-", "--min-agreement", 0.945, cwd=models.parent)
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["images"] == found["labelled"] == 250
    assert found["calibration_overlap"] == 0
    assert found["reference"]["top1"] == pytest.approx(0.90, abs=0.01)
    assert found["agreement"] >= 0.945
    assert abs(found["top1_drop"]) < 0.04
    assert found["candidate"]["size_bytes"] < 4_200_000


def test_it_names_a_parrot(models: Path, shared: Path, edgeq: Run) -> None:
    parrot = shared / "models" / "coral" / "parrot.jpg"
    done = edgeq("infer", parrot, "--model", models / "mobilenet_v2_1.0_224_int8.tflite", "--top", 1, "--json")
    assert (done.code, done.err) == (0, "")
    (best,) = json.loads(done.out)["predictions"]
    assert (best["index"], best["label"]) == (88, "macaw")
    assert best["probability"] > 0.8


def test_another_maker_s_quantization_of_the_same_weights(
    models: Path, split: tuple[Path, Path], shared: Path, tmp_path: Path, edgeq: Run
) -> None:
    """Coral's file has 1001 classes, the first a background, uint8 input and output, and says nothing of itself."""
    (tmp_path / "labels.csv").write_text((split[1] / "labels.csv").read_text())
    for path in sorted(split[1].glob("*.jpg"))[::4]:
        (tmp_path / path.name).symlink_to(path.resolve())
    coral = shared / "models" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
    assert Model(coral).classes == 1001
    done = edgeq("compare", models / "mobilenet_v2_1.0_224_fp32.tflite", coral, "--data", tmp_path, "--json", "-")
    assert (done.code, done.err) == (0, "")
    found = json.loads(done.out)
    assert found["images"] == 63
    assert found["agreement"] > 0.85
    assert found["candidate"]["top1"] > 0.8
    assert any(note.startswith(f"left out class 0, background, of {coral}") for note in found["notes"])


def test_a_keras_2_file_of_another_project(shared: Path, photos: Path, tmp_path: Path, edgeq: Run) -> None:
    source = shared / "models" / "mlcommons_tiny" / "vww_96.h5"
    options = ("--int8", "--normalize", "0..1", "--calib", shared / "data" / "imagenet_samples", "--calib-count", 30)
    done = edgeq("convert", source, *options, "--out", tmp_path)
    assert (done.code, done.err) == (0, "")
    made = {form: Model(tmp_path / f"vww_96_{form}.tflite") for form in ("fp32", "int8")}
    theirs = Model(shared / "models" / "mlcommons_tiny" / "vww_96_int8.tflite")
    people = shared / "models" / "coral" / "grace_hopper.bmp", shared / "models" / "coral" / "cat.bmp"
    for image, person in zip(people, (True, False), strict=True):
        probabilities = {form: float(model.classify(image)[1]) for form, model in made.items()}
        assert (probabilities["fp32"] > 0.5) is person
        assert probabilities["int8"] == pytest.approx(probabilities["fp32"], abs=0.1)
        assert float(theirs.classify(image)[1]) == pytest.approx(probabilities["fp32"], abs=0.1)
