"""Compare two models of plain tensors: run both on every sample, and measure the difference of each output."""

from __future__ import annotations

import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from statistics import median
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from edgeq.comparison.findings import find_layer_faults, find_tensor_advice
from edgeq.comparison.metrics import sqnr_db
from edgeq.comparison.pair import candidate_backend, median_ms
from edgeq.comparison.result import LayerDrift
from edgeq.comparison.tensor_pair import TensorPair, open_tensor_models
from edgeq.comparison.tensor_result import OutputDrift, SampleDrift, TensorComparison, TensorModelResult
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.backend import Backend
from edgeq.progress import Progress, no_progress
from edgeq.runtime import TensorModel, available_cores, runtime_version
from edgeq.samples import Samples, find_samples
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, Overrides
from edgeq.threads import run_in_order

__all__ = ["compare_tensors"]

_Answer = Mapping[str, npt.NDArray[np.float64]]
_Outcome = tuple[_Answer, _Answer] | InputError


def compare_tensors(
    reference: str | Path,
    candidate: str | Path,
    data: str | Path | Sequence[str | Path],
    *,
    runtime: str | None = None,
    workers: int | None = None,
    overrides: Overrides | None = None,
    layers: bool | Literal["auto"] = False,
    layer_samples: int = 24,
    on: str | Backend | None = None,
    progress: Progress = no_progress,
) -> TensorComparison:
    """Measure how far a candidate model of plain tensors drifted from its reference on samples.

    Args:
        reference: .tflite file of the model to compare with, usually float32.
        candidate: .tflite file of the model to measure, usually INT8.
        data: a folder of ``.npz``, ``.npy`` or image files with one sample each, a list of such files, or one ``.npz``
            or ``.npy`` file with samples in its first dimension. Each array has an input's name and shape and holds
            real numbers.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        workers: number of threads, each with its own interpreters; None for one per core.
        overrides: preprocessing of images to use instead of the files', for models that take images.
        layers: whether to compare the models layer by layer as well. ``auto`` adds a note instead of raising an error
            if their layers do not correspond.
        layer_samples: number of samples, spread evenly, on which the layers are compared.
        on: device that runs the candidate, ``[user@]host[:port]``; or a backend with the candidate loaded.
        progress: called with ("Comparing", samples done, number of samples), and while files are sent to a device.

    Returns:
        All measurements. :meth:`TensorComparison.missed_limits` checks them against a limit.

    Raises:
        InputError: the models' inputs or outputs do not correspond, or no sample can be read.
        ModelError: a model cannot be loaded or run.
        DeviceError: the device cannot be used.
    """
    pair = open_tensor_models(reference, candidate, runtime, overrides)
    samples = find_samples(data, pair.reader)
    with candidate_backend(on, pair.candidate.path, progress) as (backend, backend_notes):
        tally = _Tally(pair)
        for done, outcome in enumerate(_run_all(pair, samples, backend, workers or available_cores()), start=1):
            tally.add(samples, done - 1, outcome)
            progress("Comparing", done, len(samples.names))
        if not tally.worst:
            name, reason = tally.skipped[0]
            raise InputError(f"{name}: {reason}")
        result = tally.result(samples, _latencies(pair, samples.read(tally.numbers[0]), backend), backend)
    result = replace(result, notes=(*pair.notes(), *_remarks(result), *backend_notes))
    if not layers:
        return result
    try:
        return _with_layers(result, pair, samples, tally.numbers, layer_samples, progress)
    except EdgeqError as error:
        if layers != "auto":
            raise
        return replace(result, notes=(*result.notes, f"layers were not compared: {error}"))


def _run_all(pair: TensorPair, samples: Samples, backend: Backend | None, workers: int) -> Iterator[_Outcome]:
    """Run both models on every sample on several threads; yield the results or errors in order."""
    local = threading.local()

    def open_here() -> None:
        local.models = _open_like(pair.reference), _open_like(pair.candidate)

    def run(number: int) -> _Outcome:
        reference, candidate = local.models
        try:
            sample = samples.read(number)
        except InputError as error:
            return error
        tensors = candidate.tensors(sample)
        found = backend.run_all(tensors) if backend else candidate.invoke(tensors)
        return reference.answer(sample), candidate.dequantize(found)

    return run_in_order(run, range(len(samples.names)), workers, open_here)


def _open_like(model: TensorModel) -> TensorModel:
    """Load a model's file again, with the same names."""
    opened = TensorModel(model.path, runtime=model.runtime, metadata=model.metadata)
    return opened.renamed([spec.name for spec in model.inputs], [spec.name for spec in model.outputs])


def _latencies(pair: TensorPair, sample: Any, backend: Backend | None) -> tuple[float, float]:
    """Measure the median time of one inference of both models, in milliseconds."""
    models = [pair.reference] if backend else [pair.reference, pair.candidate]
    runs = [(model.invoke, model.tensors(sample)) for model in models]
    found = median_ms([lambda run=run: run[0](run[1]) for run in runs])  # type: ignore[misc]
    return found[0], median(backend.times_ms) if backend else found[1]


def _remarks(result: TensorComparison) -> list[str]:
    said = []
    if result.calibration_overlap:
        said.append(
            f"{result.calibration_overlap} of the {result.samples} samples were used for calibration, so the drift on "
            "other samples is probably larger; compare on other samples"
        )
    if result.skipped:
        name, reason = result.skipped[0]
        said.append(f"skipped {len(result.skipped)} files, the first is {Path(name).name}: {reason}")
    return said


@dataclass
class _Sums:
    """Sums over the samples for one output; x is the reference's and y the candidate's."""

    xx: float = 0.0
    xy: float = 0.0
    yy: float = 0.0
    noise: float = 0.0
    absolute: float = 0.0
    largest: float = 0.0
    values: int = 0
    low: float = math.inf
    high: float = -math.inf

    def add(self, x: npt.NDArray[np.float64], y: npt.NDArray[np.float64]) -> _Sums:
        """Add the values for one sample, and return the sums for this sample alone."""
        x, y = x.ravel(), y.ravel()
        difference = np.abs(y - x)
        one = _Sums(
            xx=float(x @ x),
            xy=float(x @ y),
            yy=float(y @ y),
            noise=float(difference @ difference),
            absolute=float(difference.sum()),
            largest=float(difference.max(initial=0.0)),
            values=x.size,
            low=float(x.min(initial=math.inf)),
            high=float(x.max(initial=-math.inf)),
        )
        for name in ("xx", "xy", "yy", "noise", "absolute", "values"):
            setattr(self, name, getattr(self, name) + getattr(one, name))
        self.largest, self.high = max(self.largest, one.largest), max(self.high, one.high)
        self.low = min(self.low, one.low)
        return one

    @property
    def sqnr_db(self) -> float | None:
        return sqnr_db(max(self.xx, 1e-30), self.noise) if self.noise else None

    @property
    def error(self) -> float:
        return math.sqrt(self.noise / self.xx) if self.xx else float(self.noise > 0)


@dataclass
class _Tally:
    """The running sums of a comparison.

    Attributes:
        pair: the models.
        numbers: positions of the samples that were compared.
    """

    pair: TensorPair
    numbers: list[int] = field(default_factory=list)
    skipped: list[tuple[str, str]] = field(default_factory=list)
    worst: list[SampleDrift] = field(default_factory=list)
    overlap: int = 0

    def __post_init__(self) -> None:
        self._sums = {spec.name: _Sums() for spec in self.pair.reference.outputs}
        self._seen = self.pair.reference.metadata.calibrated_on | self.pair.candidate.metadata.calibrated_on

    def add(self, samples: Samples, number: int, outcome: _Outcome) -> None:
        name = samples.names[number]
        if isinstance(outcome, InputError):
            self.skipped.append((name, str(outcome).removeprefix(f"{name}: ")))
            return
        expected, found = outcome
        alone = [sums.add(expected[output], found[output]) for output, sums in self._sums.items()]
        error = sum(one.error for one in alone) / len(alone)
        self.worst.append(
            SampleDrift(name, error, tuple(one.sqnr_db for one in alone), tuple(one.largest for one in alone))
        )
        self.numbers.append(number)
        self.overlap += bool(self._seen) and samples.digest(number)[:FINGERPRINT_LENGTH] in self._seen

    def result(self, samples: Samples, latencies: tuple[float, float], backend: Backend | None) -> TensorComparison:
        reference, candidate = (
            TensorModelResult(
                str(model.path),
                model.sha256,
                f"{model.runtime} {runtime_version(model.runtime)}",
                latency,
                model.path.stat().st_size,
            )
            for model, latency in zip((self.pair.reference, self.pair.candidate), latencies, strict=True)
        )
        if backend:
            candidate = replace(candidate, runtime=f"{backend.runtime} on {backend.name}")
        skipped = [*self.skipped, *((str(path), reason) for path, reason in samples.skipped)]
        return TensorComparison(
            samples=len(self.worst),
            skipped=tuple(skipped),
            reference=reference,
            candidate=candidate,
            outputs=tuple(self._drift(spec.name, spec.shape) for spec in self.pair.reference.outputs),
            worst=tuple(sorted(self.worst, key=lambda drift: -drift.error)),
            calibration_overlap=self.overlap,
            notes=(),
        )

    def _drift(self, name: str, shape: tuple[int, ...]) -> OutputDrift:
        sums = self._sums[name]
        norm = math.sqrt(sums.xx * sums.yy)
        return OutputDrift(
            name=name,
            shape=shape,
            sqnr_db=sums.sqnr_db,
            cosine=min(1.0, sums.xy / norm) if norm else 1.0,
            mean_difference=sums.absolute / max(sums.values, 1),
            max_difference=sums.largest,
            error=sums.error,
            low=sums.low,
            high=sums.high,
        )


def _with_layers(
    result: TensorComparison,
    models: TensorPair,
    samples: Samples,
    numbers: Sequence[int],
    count: int,
    progress: Progress,
) -> TensorComparison:
    """Add to a comparison: the drift of each layer on `count` samples spread evenly, the faults and the advice."""
    from edgeq.comparison.layers import measure_layers
    from edgeq.graphs import pair_graphs
    from edgeq.tflite.graph import read_graph

    pair = pair_graphs(read_graph(models.reference.path), read_graph(models.candidate.path))
    chosen = numbers[:: max(1, len(numbers) // count)][:count]
    seen = [(sample, sample) for sample in map(samples.read, chosen)]
    layers: tuple[LayerDrift, ...] = measure_layers(models.reference, models.candidate, pair, seen, progress)
    faults = tuple(find_layer_faults(layers, pair))
    advice = find_tensor_advice(result, models.candidate.metadata.provenance, layers, bool(faults))
    return replace(result, layers=layers, faults=faults, advice=advice)
