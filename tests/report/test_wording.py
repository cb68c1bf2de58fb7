"""The verdict in its sentence, and numbers as people read them."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from edgeq.comparison import Comparison, ModelResult, compare
from edgeq.preprocessing import NORMALIZATIONS
from edgeq.report.wording import decibels, model_names, percent, points, sentence, verdict
from edgeq.tflite.metadata import read_metadata
from edgeq.tflite.metadata_writer import repack


def model(path: str) -> ModelResult:
    return ModelResult(path, "0" * 64, "ai-edge-litert 2.3.0", 0.9, 0.98, 1.5, 4_000_000)


SOUND = Comparison(
    images=250,
    labelled=250,
    skipped=(),
    reference=model("models/m_fp32.tflite"),
    candidate=model("models/m_int8.tflite"),
    agreement=0.984,
    agreement_ci95=(0.96, 0.994),
    top1_drop=0.004,
    top1_drop_ci95=(-0.01, 0.018),
    mcnemar_p=1.0,
    calibration_overlap=0,
    ties=0,
    kl_mean=0.1,
    l1_mean=0.1,
    sqnr_db=20.0,
    flips=(),
    classes=(),
    notes=(),
)
NO_LABELS: dict[str, Any] = {"labelled": 0, "top1_drop": None, "top1_drop_ci95": None, "mcnemar_p": None}
AGREES = "INT8 agrees with FP32 on 98.4 % of 250 images (95 % interval 96.0 to 99.4)"


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        pytest.param({}, f"{AGREES}, top-1 falls by 0.4 points (-1.0 to 1.8).", id="falls"),
        pytest.param(
            {"top1_drop": -0.004, "top1_drop_ci95": (-0.018, 0.01)},
            f"{AGREES}, top-1 rises by 0.4 points (-1.0 to 1.8).",
            id="rises",
        ),
        pytest.param(
            {"top1_drop": -0.0001, "top1_drop_ci95": (-0.01, 0.0)},
            f"{AGREES}, top-1 does not change (drop of -1.0 to 0.0 points).",
            id="stays",
        ),
        pytest.param(NO_LABELS, f"{AGREES}.", id="no-labels"),
        pytest.param({"advice": ("calibrate on more photos",)}, AGREES, id="advice-comes-later"),
        pytest.param(
            {"candidate": model("theirs.tflite")},
            "The candidate agrees with the reference on 98.4 % of 250 images",
            id="other-names",
        ),
        pytest.param(
            {"images": 1, "agreement": 1.0, "agreement_ci95": (0.2065, 1.0)},
            "INT8 agrees with FP32 on 100.0 % of 1 image (95 % interval 20.6 to 100.0)",
            id="one-image",
        ),
    ],
)
def test_verdict(changes: dict[str, Any], said: str) -> None:
    assert verdict(dataclasses.replace(SOUND, **changes)).startswith(said)
    if said.endswith("."):
        assert verdict(dataclasses.replace(SOUND, **changes)) == said


def test_what_is_broken_leads() -> None:
    broken = dataclasses.replace(SOUND, faults=("pixels are normalized to 0..1: wrong normalization", "another"))
    assert verdict(broken) == f"Pixels are normalized to 0..1: wrong normalization. {verdict(SOUND)}"


def test_a_real_model_that_is_broken(colour_models: Path, photos: Path, tmp_path: Path) -> None:
    """Its file says that pixels are normalized to another range than the network was made for."""
    intact = colour_models / "colours_int8.tflite"
    metadata = read_metadata(intact)
    assert metadata.preprocessing is not None
    mean, std = NORMALIZATIONS["0..1"]
    wrong = dataclasses.replace(metadata, preprocessing=dataclasses.replace(metadata.preprocessing, mean=mean, std=std))
    broken = tmp_path / "colours_int8.tflite"
    broken.write_bytes(repack(intact.read_bytes(), wrong))
    said = [
        verdict(compare(colour_models / "colours_fp32.tflite", m, photos, layers=True, layer_images=4))
        for m in (intact, broken)
    ]
    assert said[0].startswith("INT8 agrees with FP32 on 100.0 % of 36 images")
    assert said[1].startswith(
        "Pixels are normalized to 0..1, but the reference takes -1..1: wrong normalization. INT8 agrees"
    )


@pytest.mark.parametrize(
    ("paths", "names"),
    [
        (("a_fp32.tflite", "a_int8.tflite"), ("FP32", "INT8")),
        (("x/my_fp16.tflite", "y/z_int16x8.tflite"), ("FP16", "INT16x8")),
        (("a_int8.tflite", "b_int8.tflite"), ("reference", "candidate")),
        (("a_fp32.tflite", "b.tflite"), ("reference", "candidate")),
    ],
)
def test_model_names(paths: tuple[str, str], names: tuple[str, str]) -> None:
    pair = dataclasses.replace(SOUND, reference=model(paths[0]), candidate=model(paths[1]))
    assert model_names(pair) == names


def test_numbers() -> None:
    assert [percent(None), percent(0), percent(0.98449), percent(1)] == ["-", "0.0 %", "98.4 %", "100.0 %"]
    assert [points(None), points(-0.0001), points(-0.01), points(0.018)] == ["-", "0.0", "-1.0", "1.8"]
    assert [decibels(None), decibels(math.inf), decibels(-3.26)] == ["no noise", "no noise", "-3.3 dB"]


def test_sentences_end_once() -> None:
    assert [sentence("a"), sentence("a."), sentence("a?")] == ["A.", "A.", "A?"]
