"""The representative dataset for calibration: choose images for it, or synthesize them."""

from __future__ import annotations

from edgeq.calibration.representative import (
    MINIMUM_IMAGES,
    CalibrationSet,
    CalibrationSource,
    choose_images,
    require_images,
    shipped_images,
)
from edgeq.calibration.sample_set import SampleSet, choose_samples
from edgeq.calibration.synthetic_set import SyntheticSet, synthesize_calibration

__all__ = [
    "MINIMUM_IMAGES",
    "CalibrationSet",
    "CalibrationSource",
    "SampleSet",
    "SyntheticSet",
    "choose_images",
    "choose_samples",
    "require_images",
    "shipped_images",
    "synthesize_calibration",
]
