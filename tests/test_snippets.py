"""What README.md and docs/ say of Python is true: their code runs, in a folder that has the files it names."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, ROOT, colour_picture
from tensors.networks import small_networks

keras = pytest.importorskip("keras")

DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def program(document: Path) -> str:
    """The Python of a document, each line where it stands there; later blocks know the names of earlier ones."""
    text, code = document.read_text(encoding="utf-8"), ""
    for block in BLOCK.finditer(text):
        code += "\n" * (text.count("\n", 0, block.start(1)) - code.count("\n")) + block[1]
    return code


WITH_PYTHON = [document for document in DOCUMENTS if program(document)]


@pytest.fixture(scope="session")
def my_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Keras model of 32x32 pixels for three classes, whose BatchNormalization knows its photos."""
    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.Conv2D(8, 3, strides=2, use_bias=False),
            layers.BatchNormalization(),
            layers.ReLU(6),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ]
    )
    rng = np.random.default_rng(0)
    model.layers[1].set_weights([rng.uniform(0.5, 1.5, 8), rng.normal(0, 1, 8), rng.normal(0, 1, 8), np.ones(8)])
    path = tmp_path_factory.mktemp("my") / "my_model.keras"
    model.save(path)
    return path


@pytest.fixture
def workplace(
    my_model: Path, colour_models: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """The current folder, with stand-ins for all that the documents name: small ones, so that it takes seconds."""
    shutil.copy(my_model, tmp_path)
    (tmp_path / "models").mkdir()
    for form in ("fp32", "int8"):
        for name in (f"models/mobilenet_v2_1.0_224_{form}", f"my_model_{form}"):
            shutil.copy(colour_models / f"colours_{form}.tflite", tmp_path / f"{name}.tflite")
    for name in ("photos", "calibration-photos", "evaluation-photos"):
        (tmp_path / name).symlink_to(photos)
    (tmp_path / "labels.txt").write_text("".join(f"{name}\n" for name in COLOURS))
    colour_picture("red", seed=9).save(tmp_path / "parrot.jpg")
    arm = small_networks()["two_by_two"]
    shutil.copy(arm.path, tmp_path / "arm_float32.tflite")
    shutil.copy(arm.data, tmp_path / "evaluation.npz")
    (tmp_path / "samples").symlink_to(arm.calibration)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_there_is_python_in_the_readme() -> None:
    assert ROOT / "README.md" in WITH_PYTHON


LONG = ("python.md",)  # it calls every command's function


@pytest.mark.parametrize(
    "document",
    [pytest.param(path, marks=[pytest.mark.accept] * (path.name in LONG)) for path in WITH_PYTHON],
    ids=lambda document: document.name,
)
def test_the_code_runs(document: Path, workplace: Path, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(program(document), str(document), "exec"), {"__name__": "__main__"})
    assert "Error" not in capsys.readouterr().err
