"""The representative dataset: which images a network is calibrated on."""

from __future__ import annotations

from edgeq.calibration.representative import (
    MINIMUM_IMAGES,
    CalibrationSet,
    choose_images,
    shipped_images,
)

__all__ = ["MINIMUM_IMAGES", "CalibrationSet", "choose_images", "shipped_images"]
