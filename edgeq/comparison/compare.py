"""Comparing two models: every image once, through both, on all cores; then the counts become measures."""

from __future__ import annotations

import contextlib
import threading
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from statistics import median
from typing import Literal

from edgeq.comparison.dataset import LabelledImage, find_labels
from edgeq.comparison.pair import Outputs, Pair, latency_ms, open_both
from edgeq.comparison.result import Comparison, ModelResult
from edgeq.comparison.tally import Score, Tally
from edgeq.errors import EdgeqError, ImageError, InputError
from edgeq.execution.backend import Backend
from edgeq.progress import Progress, no_progress
from edgeq.runtime import Model, available_cores, runtime_version
from edgeq.tflite.metadata import Overrides

__all__ = ["compare"]

_Underway = tuple[LabelledImage, "Future[Outputs | ImageError]"]

_AHEAD = 4
"""Images under way per thread: enough to keep it busy, few enough to keep memory flat."""


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
    """Measure how far `candidate` drifted from `reference` on the images below `data`.

    Args:
        reference: .tflite file that is taken as right, usually FP32.
        candidate: .tflite file in question, usually INT8.
        data: folder of images, or a file that lists them; see :func:`edgeq.comparison.find_labels`.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None takes ``EDGEQ_RUNTIME`` or the fastest.
        workers: threads, each with its own interpreters; None takes one per core.
        overrides: what the caller knows better than the files, for both.
        labels_needed: whether images without known classes are an error.
        layers: whether to compare the models layer by layer as well. ``auto`` makes a note instead of an error where
            their layers do not correspond.
        layer_images: on how many of the images, spread evenly; the default gives two digits of an SQNR.
        on: device that runs the candidate, ``[user@]host[:port]``, contacted when all else is known to be in order; or
            a backend that has it already. Its layers are compared on this host all the same.
        progress: called with ("Comparing", images done, images in all), and while files travel to a device.

    Returns:
        Everything measured; with :meth:`Comparison.missed_limits` it is a gate.

    Raises:
        InputError: the models do not go together, there are no images, or no known classes where needed.
        ModelError: a model cannot be loaded or run.
        DeviceError: the device cannot be used.
    """
    reference_model, candidate_model, notes = open_both(reference, candidate, runtime, overrides)
    pair = Pair(reference_model, candidate_model)
    images, label_notes = find_labels(data, pair.alignment.classes, pair.alignment.labels)
    if labels_needed and all(image.class_index is None for image in images):
        raise InputError(f"{data}: a limit on the top-1 drop needs images with known classes, but {label_notes[0]}")
    with _backend(on, candidate_model, progress) as (backend, backend_notes):
        tally, latencies_ms = _measure(pair, images, backend, workers or available_cores(), progress)
    if not tally.images:
        raise InputError(f"{data}: none of its {len(images)} files is an image that can be read")
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


@contextlib.contextmanager
def _backend(
    on: str | Backend | None, model: Model, progress: Progress
) -> Iterator[tuple[Backend | None, tuple[str, ...]]]:
    """Return the backend of the candidate if it does not run in this process, and notes about it."""
    if not isinstance(on, str):
        yield on, ()
        return
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.setup import connected  # comparing on this host needs no SSH

    with connected(on, progress) as device:
        emulated = device.machine().emulated_by is not None
        note = f"{on} is emulated, so the candidate's latency is not a board's"
        yield DeviceBackend(device, model.path), (note,) if emulated else ()


def _measure(
    pair: Pair, images: list[LabelledImage], backend: Backend | None, workers: int, progress: Progress
) -> tuple[Tally, list[float]]:
    """Run both models on every image; returns the sums, and both latencies in milliseconds."""

    def open_pair() -> Pair:
        """Open both again, for one more thread."""
        return Pair(_open_like(pair.reference), _open_like(pair.candidate), backend)

    latencies_ms = latency_ms([pair.reference] if backend else [pair.reference, pair.candidate])
    tally = Tally(pair.alignment.labels)
    for done, (image, outputs) in enumerate(_run_all(images, open_pair, workers), start=1):
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
    """Add the drift of each layer, over images spread evenly, and what all of it says."""
    from edgeq.comparison.findings import find_advice, find_faults
    from edgeq.comparison.layers import measure_layers
    from edgeq.graphs import pair_graphs
    from edgeq.tflite.graph import read_graph

    reference, candidate = models.reference, models.candidate
    pair = pair_graphs(read_graph(reference.path), read_graph(candidate.path))
    seen = []
    for image in images[:: max(1, len(images) // count)][:count]:
        with contextlib.suppress(ImageError):  # counted already
            seen.append((reference.preprocessing.pixels(image.path), candidate.preprocessing.pixels(image.path)))
    layers = measure_layers(reference, candidate, pair, seen, progress)
    faults = find_faults(reference, candidate, layers, pair)
    return replace(result, layers=layers, faults=faults, advice=find_advice(result, candidate, layers, bool(faults)))


def _open_like(model: Model) -> Model:
    """Load the same model again."""
    spec = model.preprocessing
    overrides = Overrides((spec.mean, spec.std), spec.channels, spec.crop, model.labels)
    return Model(model.path, runtime=model.runtime, overrides=overrides)


def _run_all(
    images: list[LabelledImage], open_pair: Callable[[], Pair], workers: int
) -> Iterator[tuple[LabelledImage, Outputs | ImageError]]:
    """Run every image, in order, on `workers` threads; a few images per thread are under way at any time.

    Decoding, resampling and inference all leave Python's lock, so threads use the cores.
    """
    local = threading.local()

    def open_here() -> None:
        local.pair = open_pair()

    def run(image: LabelledImage) -> Outputs | ImageError:
        try:
            outputs: Outputs = local.pair.run(image.path)
        except ImageError as error:
            return error
        return outputs

    waiting: deque[_Underway] = deque()
    with ThreadPoolExecutor(workers, initializer=open_here) as pool:
        try:
            for image in images:
                waiting.append((image, pool.submit(run, image)))
                if len(waiting) >= _AHEAD * workers:
                    yield _next(waiting)
            while waiting:
                yield _next(waiting)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _next(waiting: deque[_Underway]) -> tuple[LabelledImage, Outputs | ImageError]:
    image, future = waiting.popleft()
    return image, future.result()


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
