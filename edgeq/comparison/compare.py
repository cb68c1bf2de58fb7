"""Compare two models: run both on every image, here or on a cluster, and compute the measures."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any, Literal

import edgeq
from edgeq.cluster import open_runner
from edgeq.comparison.finished_shards import FinishedShards
from edgeq.comparison.image_data import SHARD_IMAGES, ImageData, open_images
from edgeq.comparison.pair import Pair, candidate_backend, latency_ms, open_both
from edgeq.comparison.result import Comparison, ModelResult
from edgeq.comparison.shards import close_models, compare_shard, describe
from edgeq.comparison.tally import Score, Tally
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.backend import Backend
from edgeq.progress import Progress, no_progress
from edgeq.runtime import Model, available_cores, runtime_version
from edgeq.tflite.metadata import Overrides

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
    scheduler: str | None = None,
    resume: str | Path | None = None,
    shard_images: int = SHARD_IMAGES,
    progress: Progress = no_progress,
) -> Comparison:
    """Measure how far a candidate model drifted from its reference on a set of images.

    Args:
        reference: .tflite file of the model to compare with, usually float32.
        candidate: .tflite file of the model to measure, usually INT8.
        data: folder of images, or a CSV file that lists them, see :func:`edgeq.comparison.find_labels`; or tar files as
            WebDataset writes them, such as ``shard-{000000..000127}.tar``. Each may be a URL that fsspec opens.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        workers: number of threads, each with its own interpreters; None for one per core. On a cluster, the number of
            threads of each task; None for one.
        overrides: preprocessing and labels to use instead of both files'.
        labels_needed: whether to raise an error if no image has a known class.
        layers: whether to compare the models layer by layer as well. ``auto`` adds a note instead of raising an error
            if their layers do not correspond.
        layer_images: number of images, spread evenly, on which the layers are compared. The default determines an SQNR
            to two digits.
        on: device that runs the candidate, ``[user@]host[:port]``, which is contacted after everything else has been
            checked; or a backend with the candidate loaded. The layers are always compared on this host.
        scheduler: address of a Dask scheduler, such as ``tcp://10.0.0.5:8786``, whose workers run the models; None for
            this process. The result is the same, except for the latency, which is always measured in this process.
        resume: folder in which finished parts of the images are kept, and from which an interrupted comparison goes on.
        shard_images: number of images in a part, except for tar files, each of which is a part. It does not change
            the result.
        progress: called with ("Comparing", images done, number of images), or for tar files with the numbers of tars,
            and while files are sent to a device.

    Returns:
        All measurements. :meth:`Comparison.missed_limits` checks them against limits.

    Raises:
        InputError: the models' classes do not match, there are no images, classes are needed but unknown, or the parts
            in the folder `resume` are those of other models, settings or images.
        ModelError: a model cannot be loaded or run.
        DeviceError: the device cannot be used.
        EdgeqError: the cluster cannot be used, or a worker has other versions of edgeq or of the runtime.
    """
    if on is not None and (scheduler is not None or resume is not None):
        raise InputError("a candidate on a device can neither run on a cluster nor be resumed")
    reference_model, candidate_model, notes = open_both(reference, candidate, runtime, overrides)
    pair = Pair(reference_model, candidate_model)
    images = open_images(data, pair.alignment.classes, pair.alignment.labels, shard_images)
    if labels_needed and not images.labelled:
        raise InputError(f"{data}: a limit on the top-1 drop needs images with known classes, but {images.notes[0]}")
    with candidate_backend(on, candidate_model.path, progress) as (backend, backend_notes):
        latencies_ms = latency_ms([pair.reference] if backend else [pair.reference, pair.candidate])
        threads = workers or (1 if scheduler else available_cores())
        work = _Work(pair, images, backend, scheduler, resume, threads, progress)
        tally, cluster_notes = work.run()
        if not tally.images:
            raise InputError(f"{data}: none of its {len(tally.skipped)} images can be read")
        if backend:
            latencies_ms.append(median(backend.times_ms))
    candidate_result = _model_result(candidate_model, latencies_ms[1], tally.candidate)
    if backend:
        candidate_result = replace(candidate_result, runtime=f"{backend.runtime} on {backend.name}")
    result = tally.result(
        _model_result(reference_model, latencies_ms[0], tally.reference),
        candidate_result,
        (*images.notes, *notes, *pair.notes(), *backend_notes, *cluster_notes),
        candidate_labels=candidate_model.labels[pair.alignment.skips[1] :],
        candidate_skip=pair.alignment.skips[1],
    )
    if not layers:
        return result
    try:
        return _with_layers(result, pair, images, layer_images, progress)
    except EdgeqError as error:
        if layers != "auto":
            raise
        return replace(result, notes=(*result.notes, f"layers were not compared: {error}"))


@dataclass
class _Work:
    """The work of a comparison: run both models on every shard that is not finished, and add up the tallies."""

    pair: Pair
    images: ImageData
    backend: Backend | None
    scheduler: str | None
    resume: str | Path | None
    threads: int
    progress: Progress

    def __post_init__(self) -> None:
        self._models = describe(self.pair)
        self._tally, self._processors = Tally(self.pair.alignment.labels), set[str]()
        folder = str(Path.cwd()) if self.scheduler else None  # workers have other working folders
        self._common = {"models": self._models, "threads": self.threads, "folder": folder}
        self._done = 0

    def run(self) -> tuple[Tally, list[str]]:
        """Return the sums over all images, and notes."""
        model = self.pair.reference
        files = {side.sha256: side.path for side in (self.pair.reference, self.pair.candidate)}
        task = compare_shard
        if self.scheduler is None:
            task = partial(compare_shard, backend=self.backend, on_image=self._image_is_done)
        try:
            finished = FinishedShards(self.resume, self._settings()) if self.resume is not None else None
            with finished or contextlib.nullcontext(), open_runner(self.scheduler, model.runtime, files) as runner:
                for number, result in runner.run(task, self._calls(finished)):
                    if finished:
                        finished.write(number, result)
                    self._add(number, result, counted=self.scheduler is None)
        finally:
            close_models()
        return self._tally, _notes_on(self._processors)

    def _calls(self, finished: FinishedShards | None) -> Iterator[tuple[int, dict[str, Any]]]:
        """Yield the shards that are not finished, and add the results of the others."""
        for number in range(self.images.shards):
            result = finished.read(number) if finished else None
            if finished is None or result is None:
                yield number, self._common | {"shard": self.images.shard(number)}
                continue
            try:
                self._add(number, result)
            except (ArithmeticError, AttributeError, KeyError, TypeError, ValueError):  # not what edgeq wrote
                raise finished.damaged(number) from None

    def _add(self, number: int, result: dict[str, Any], counted: bool = False) -> None:
        """Add a shard's result to the sums, and report the progress unless its images were counted one by one."""
        part = Tally.from_json(result["tally"])
        self._tally.merge(part, number)
        self._processors.add(" ".join(result["processor"]))
        if self.images.total is None:
            self._report(1, self.images.shards)
        elif not counted:
            self._report(part.images + len(part.skipped), self.images.total)

    def _image_is_done(self) -> None:
        if self.images.total is not None:
            self._report(1, self.images.total)

    def _report(self, more: int, total: int) -> None:
        self._done += more
        self.progress("Comparing", self._done, total)

    def _settings(self) -> dict[str, Any]:
        """Return what must be equal to resume, by its name in a message."""
        models = {side: dict(self._models[side]) for side in ("reference", "candidate")}
        options = {side: {key: models[side].pop(key) for key in _OPTIONS} for side in models}
        runtime = self.pair.reference.runtime
        return {
            **{side: model["sha256"] for side, model in models.items()},
            "preprocessing or labels": options,
            "runtime": f"{runtime} {runtime_version(runtime)}",
            "images": self.images.fingerprint(),
            "number of images in a part": self.images.per_shard,
            "version of edgeq": edgeq.__version__,
        }


_OPTIONS = ("normalization", "channels", "crop", "labels")


def _notes_on(processors: set[str]) -> list[str]:
    if len(processors) < 2:
        return []
    return [
        f"the models ran on different processors ({'; '.join(sorted(processors))}), on which the runtimes' default "
        "kernels round differently, so another run may differ slightly"
    ]


def _with_layers(result: Comparison, models: Pair, images: ImageData, count: int, progress: Progress) -> Comparison:
    """Add to a comparison: the drift of each layer on `count` images spread evenly, the faults and the advice."""
    from edgeq.comparison.findings import find_advice, find_faults
    from edgeq.comparison.layers import measure_layers
    from edgeq.graphs import pair_graphs
    from edgeq.tflite.graph import read_graph

    reference, candidate = models.reference, models.candidate
    pair = pair_graphs(read_graph(reference.path), read_graph(candidate.path))
    seen = [
        (reference.preprocessing.pixels(image.source()), candidate.preprocessing.pixels(image.source()))
        for image in images.spread(count, {file for file, _ in result.skipped})
    ]
    layers = measure_layers(reference, candidate, pair, seen, progress)
    faults = find_faults(reference, candidate, layers, pair)
    return replace(result, layers=layers, faults=faults, advice=find_advice(result, candidate, layers, bool(faults)))


def _model_result(model: Model, latency: float, score: Score) -> ModelResult:
    return ModelResult(
        path=str(model.path),
        sha256=model.sha256,
        runtime=f"{model.runtime} {runtime_version(model.runtime)}",
        top1=score.share(score.top1),
        top5=score.share(score.top5),
        latency_ms=latency,
        size_bytes=model.path.stat().st_size,
    )
