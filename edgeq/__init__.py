"""edgeq: quantize image classifiers to INT8 TFLite models, run them on devices and compare them with the float models.

Every command except ``edgeq device`` has a function here. The device half of the package (images, preprocessing,
quantization, metadata, runtime, classification, benchmarking) needs numpy, Pillow, click and one TFLite runtime. The
host half (networks, training, calibration, conversion) also needs TensorFlow, which is imported on first use.

Names are loaded when they are first used, so ``import edgeq`` takes almost no time. ``__init__.pyi``, beside this file,
declares them for type checkers.
"""

from __future__ import annotations

import importlib

__version__ = "0.1.0"

_NAMES = {
    "edgeq.benchmarking": ("Benchmark", "Measurement", "bench", "bench_devices"),
    "edgeq.bundling": ("Bundle", "bundle", "write_c_array"),
    "edgeq.calibration": ("CalibrationSet", "SyntheticSet", "choose_images", "synthesize_calibration"),
    "edgeq.classification": ("Classification", "Prediction", "top_predictions"),
    "edgeq.collecting": ("Collection", "collect"),
    "edgeq.comparison": ("BackendComparison", "Comparison", "LayerDrift", "ModelResult", "compare", "compare_backends"),
    "edgeq.comparison.tensor_result": ("OutputDrift", "SampleDrift", "TensorComparison"),
    "edgeq.comparison.tensors": ("compare_tensors",),
    "edgeq.conversion": ("Conversion", "ConvertedModel", "convert"),
    "edgeq.errors": ("EdgeqError",),
    "edgeq.inference": ("classify", "classify_all"),
    "edgeq.inference.tensors": ("TensorAnswer", "infer_tensors"),
    "edgeq.inspection": ("Inspection", "TargetReport", "check_target", "inspect"),
    "edgeq.networks": ("Architecture", "Network", "NetworkSummary", "build_network", "open_network", "summarize"),
    "edgeq.preprocessing": ("Preprocessing", "parse_normalization"),
    "edgeq.quantization": ("Quantization",),
    "edgeq.refinement": ("RefinedModel", "Refinement", "refine"),
    "edgeq.report.markdown": ("write_markdown",),
    "edgeq.report.page": ("write_report",),
    "edgeq.runtime": ("Model", "TensorModel"),
    "edgeq.runtime.admission": ("trusting",),
    "edgeq.sweeping": (
        "CellAccuracy",
        "CellLatency",
        "Sweep",
        "SweepCell",
        "SweepGrid",
        "SweepLimits",
        "SweepPicks",
        "SweepPlan",
        "sweep",
    ),
    "edgeq.tflite.metadata": ("ModelMetadata", "Overrides", "read_labels", "read_metadata"),
    "edgeq.training": ("TrainingPlan", "Trained", "train"),
    "edgeq.watching": ("Interruption", "Keeper", "Observed", "watch"),
    "edgeq.watching.web": ("WatchPage",),
}
_HOMES = {name: home for home, names in _NAMES.items() for name in names}  # the module of each name

__all__ = sorted([*_HOMES, "__version__"])  # noqa: PLE0605 (classes come before functions, as capitals do)


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module 'edgeq' has no attribute {name!r}")
    value = getattr(importlib.import_module(_HOMES[name]), name)
    globals()[name] = value  # later look-ups find it without calling this function
    return value


def __dir__() -> list[str]:
    return list(__all__)
