"""The predictions for an image, as text."""

from __future__ import annotations

from edgeq.classification import Classification, Prediction
from edgeq.report.predictions import prediction_lines

RESULT = Classification(
    "a photo.jpg",
    (Prediction(2, "bull mastiff", 0.9753), Prediction(0, "ox", 0.0004)),
    {"decode": 12.34, "invoke": 3.0},
    "pi@kitchen",
)


def test_a_line_per_prediction() -> None:
    assert prediction_lines(RESULT) == ["a photo.jpg", "   97.5%  bull mastiff", "    0.0%  ox"]


def test_times_and_device() -> None:
    name, *_, times = prediction_lines(RESULT, timed=True, with_device=True)
    assert name == "pi@kitchen: a photo.jpg"
    assert times.split() == ["decode", "12.3", "ms,", "invoke", "3.0", "ms"]
