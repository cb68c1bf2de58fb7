"""A comparison against limits."""

from __future__ import annotations

import dataclasses
import math

import pytest

from edgeq.comparison import Comparison, ModelResult
from edgeq.errors import InputError

MODEL = ModelResult("m.tflite", "0" * 64, "ai-edge-litert 2.3.0", 0.9, 0.98, 1.5, 4_000_000)
FOUND = Comparison(
    images=200,
    labelled=200,
    skipped=(),
    reference=MODEL,
    candidate=MODEL,
    agreement=0.95,
    agreement_ci95=(0.91, 0.97),
    top1_drop=0.01,
    top1_drop_ci95=(-0.01, 0.03),
    mcnemar_p=0.5,
    calibration_overlap=0,
    ties=0,
    kl_mean=0.1,
    l1_mean=0.1,
    sqnr_db=20.0,
    flips=(),
    classes=(),
    notes=(),
)
UNLABELLED = dataclasses.replace(FOUND, labelled=0, top1_drop=None, top1_drop_ci95=None, mcnemar_p=None)


@pytest.mark.parametrize(
    ("limits", "reasons"),
    [
        pytest.param({}, [], id="none"),
        pytest.param({"max_drop": 0.01, "min_agreement": 0.95}, [], id="just met"),
        pytest.param({"max_drop": 0.0099}, ["top-1 drops by 0.0100, more than 0.0099"], id="drop"),
        pytest.param({"min_agreement": 0.9501}, ["agreement is 0.9500, less than 0.9501"], id="agreement"),
        pytest.param({"max_drop": 0, "min_agreement": 1}, ["top-1 drops", "agreement is"], id="both"),
        pytest.param({"max_drop": math.nan, "min_agreement": math.nan}, ["top-1 drops", "agreement is"], id="NaN"),
    ],
)
def test_limits(limits: dict[str, float], reasons: list[str]) -> None:
    found = FOUND.missed_limits(**limits)
    assert len(found) == len(reasons)
    assert all(said.startswith(reason) for said, reason in zip(found, reasons, strict=True))


def test_a_limit_on_a_drop_that_was_not_measured() -> None:
    assert UNLABELLED.missed_limits(min_agreement=0.9) == []
    with pytest.raises(InputError, match="needs images with known classes"):
        UNLABELLED.missed_limits(max_drop=0.5)
