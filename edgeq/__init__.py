"""edgeq: quantize image classifiers to INT8 TFLite models, and run and compare them where it counts.

The device half of the package (images, preprocessing, quantization, metadata, runtime, classification) needs
numpy, Pillow, click and one TFLite runtime. The desk half (networks, calibration, conversion, comparison)
also builds and converts networks; only it imports TensorFlow, and only when that is used.

Names are loaded when they are first used, so ``import edgeq`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import Any

__version__ = "0.1.0"

_HOMES = {
    "Classification": "edgeq.classification",
    "Comparison": "edgeq.comparison",
    "ConvertedModel": "edgeq.conversion",
    "EdgeqError": "edgeq.errors",
    "Model": "edgeq.runtime",
    "ModelMetadata": "edgeq.tflite.metadata",
    "Overrides": "edgeq.tflite.metadata",
    "Prediction": "edgeq.classification",
    "Preprocessing": "edgeq.preprocessing",
    "Quantization": "edgeq.quantization",
    "classify": "edgeq.inference",
    "classify_all": "edgeq.inference",
    "compare": "edgeq.comparison",
    "convert": "edgeq.conversion",
    "read_metadata": "edgeq.tflite.metadata",
    "top_predictions": "edgeq.classification",
    "write_report": "edgeq.report",
}

__all__ = [
    "Classification",
    "Comparison",
    "ConvertedModel",
    "EdgeqError",
    "Model",
    "ModelMetadata",
    "Overrides",
    "Prediction",
    "Preprocessing",
    "Quantization",
    "__version__",
    "classify",
    "classify_all",
    "compare",
    "convert",
    "read_metadata",
    "top_predictions",
    "write_report",
]


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
