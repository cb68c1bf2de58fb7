"""Compare two models: run both on every image, on all cores, and compute the measures."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Literal

from edgeq.comparison.dataset import LabelledImage, find_labels
from edgeq.comparison.pair import Outputs, Pair, candidate_backend, latency_ms, open_both
from edgeq.comparison.result import Comparison, ModelResult
from edgeq.comparison.tally import Score, Tally
from edgeq.errors import EdgeqError, ImageError, InputError
from edgeq.execution.backend import Backend
from edgeq.progress import Progress, no_progress
from edgeq.runtime import Model, available_cores, runtime_version
from edgeq.tflite.metadata import Overrides
from edgeq.threads import run_in_order

__all__ = ["compare"]


def compare(
    reference: str | Path,
    candidate: str | Path,
    data: str | Path,
    *,
    runtime: str | None = None,
    workers: int | None = None,
    overrides: Overrides | None = None,
    labels_needed: bool = False,
    layers: bool | Literal["auto"] = False,
    layer_images: int = 24,
    on: str | Backend | None = None,
    progress: Progress = no_progress,
) -> Comparison:
    """Measure how far a candidate model drifted from its reference on a set of images.

    Args:
        reference: .tflite file of the model to compare with, usually float32.
        candidate: .tflite file of the model to measure, usually INT8.
        data: folder of images, or a CSV file that lists them; see :func:`edgeq.comparison.find_labels`.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        workers: number of threads, each with its own interpreters; None for one per core.
        overrides: preprocessing and labels to use instead of both files'.
        labels_needed: whether to raise an error if no image has a known class.
        layers: whether to compare the models layer by layer as well. ``auto`` adds a note instead of raising an error
            if their layers do not correspond.
        layer_images: number of images, spread evenly, on which the layers are compared. The default determines an SQNR
            to two digits.
        on: device that runs the candidate, ``[user@]host[:port]``, which is contacted after everything else has been
            checked; or a backend with the candidate loaded. The layers are always compared on this host.
        progress: called with ("Comparing", images done, number of images), and while files are sent to a device.

    Returns:
        All measurements. :meth:`Comparison.missed_limits` checks them against limits.

    Raises:
        InputError: the models' classes do not match, there are no images, or classes are needed but unknown.
        ModelError: a model cannot be loaded or run.
        DeviceError: the device cannot be used.
    """
    reference_model, candidate_model, notes = open_both(reference, candidate, runtime, overrides)
    pair = Pair(reference_model, candidate_model)
    images, label_notes = find_labels(data, pair.alignment.classes, pair.alignment.labels)
    if labels_needed and all(image.class_index is None for image in images):
        raise InputError(f"{data}: a limit on the top-1 drop needs images with known classes, but {label_notes[0]}")
    with candidate_backend(on, candidate_model.path, progress) as (backend, backend_notes):
        tally, latencies_ms = _measure(pair, images, backend, workers or available_cores(), progress)
    if not tally.images:
        raise InputError(f"{data}: none of its {len(images)} images can be read")
    candidate_result = _model_result(candidate_model, latencies_ms[1], tally.candidate)
    if backend:
        candidate_result = replace(candidate_result, runtime=f"{backend.runtime} on {backend.name}")
    result = tally.result(
        _model_result(reference_model, latencies_ms[0], tally.reference),
        candidate_result,
        (*label_notes, *notes, *pair.notes(), *backend_notes),
    )
    if not layers:
        return result
    try:
        return _with_layers(result, pair, images, layer_images, progress)
    except EdgeqError as error:
        if layers != "auto":
            raise
        return replace(result, notes=(*result.notes, f"layers were not compared: {error}"))


def _measure(
    pair: Pair, images: list[LabelledImage], backend: Backend | None, workers: int, progress: Progress
) -> tuple[Tally, list[float]]:
    """Run both models on every image; return the running sums, and both latencies in milliseconds."""

    def open_pair() -> Pair:
        """Open both models again, for another thread."""
        return Pair(_open_like(pair.reference), _open_like(pair.candidate), backend)

    latencies_ms = latency_ms([pair.reference] if backend else [pair.reference, pair.candidate])
    tally = Tally(pair.alignment.labels)
    found = zip(images, _run_all(images, open_pair, workers), strict=True)
    for done, (image, outputs) in enumerate(found, start=1):
        if isinstance(outputs, ImageError):
            tally.skipped.append((str(image.path), str(outputs).removeprefix(f"{image.path}: ")))
        else:
            tally.add(image, outputs)
        progress("Comparing", done, len(images))
    if backend and tally.images:
        latencies_ms.append(median(backend.times_ms))
    return tally, latencies_ms


def _with_layers(
    result: Comparison, models: Pair, images: list[LabelledImage], count: int, progress: Progress
) -> Comparison:
    """Add to a comparison: the drift of each layer on `count` images spread evenly, the faults and the advice."""
    from edgeq.comparison.findings import find_advice, find_faults
    from edgeq.comparison.layers import measure_layers
    from edgeq.graphs import pair_graphs
    from edgeq.tflite.graph import read_graph

    reference, candidate = models.reference, models.candidate
    pair = pair_graphs(read_graph(reference.path), read_graph(candidate.path))
    skipped = {file for file, _ in result.skipped}
    readable = [image.path for image in images if str(image.path) not in skipped]
    chosen = readable[:: max(1, len(readable) // count)][:count]
    seen = [(reference.preprocessing.pixels(path), candidate.preprocessing.pixels(path)) for path in chosen]
    layers = measure_layers(reference, candidate, pair, seen, progress)
    faults = find_faults(reference, candidate, layers, pair)
    return replace(result, layers=layers, faults=faults, advice=find_advice(result, candidate, layers, bool(faults)))


def _open_like(model: Model) -> Model:
    """Load a model's file again, with the same settings."""
    spec = model.preprocessing
    overrides = Overrides((spec.mean, spec.std), spec.channels, spec.crop, model.labels)
    return Model(model.path, runtime=model.runtime, overrides=overrides)


def _run_all(
    images: list[LabelledImage], open_pair: Callable[[], Pair], workers: int
) -> Iterator[Outputs | ImageError]:
    """Run every image on `workers` threads, and yield the results in the order of the images."""
    local = threading.local()

    def open_here() -> None:
        local.pair = open_pair()

    def run(image: LabelledImage) -> Outputs | ImageError:
        try:
            outputs: Outputs = local.pair.run(image.path)
        except ImageError as error:
            return error
        return outputs

    return run_in_order(run, images, workers, open_here)


def _model_result(model: Model, latency: float, score: Score) -> ModelResult:
    return ModelResult(
        path=str(model.path),
        sha256=model.sha256,
        runtime=f"{model.runtime} {runtime_version(model.runtime)}",
        top1=score.top1 / score.labelled if score.labelled else None,
        top5=score.top5 / score.labelled if score.labelled else None,
        latency_ms=latency,
        size_bytes=model.path.stat().st_size,
    )
