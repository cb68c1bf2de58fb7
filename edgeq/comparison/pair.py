"""A pair of models to compare: open them, match their classes, run both on an image, time them."""

from __future__ import annotations

import contextlib
import hashlib
import io
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError, UnknownNormalizationError
from edgeq.execution.backend import Backend
from edgeq.files import sha256_of_file
from edgeq.images import Source
from edgeq.progress import Progress
from edgeq.runtime import Model
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, Overrides

__all__ = [
    "Alignment",
    "Outputs",
    "Pair",
    "align",
    "candidate_backend",
    "latency_ms",
    "median_ms",
    "open_both",
]


@dataclass(frozen=True)
class NamedImage:
    """One image of a comparison, in a file or in memory.

    Attributes:
        name: the file's path or URL; for a file in a tar, the tar's path or URL, a slash and the name within.
        class_index: index of its true class, from 0; None if unknown.
        content: the file's bytes; None if `name` is the path of a local file.
    """

    name: str
    class_index: int | None = None
    content: bytes | None = None

    def source(self) -> Source:
        """Return what to decode."""
        return self.name if self.content is None else _NamedBytes(self.content, self.name)

    def sha256(self) -> str:
        """Return the SHA-256 digest of the file, in hexadecimal."""
        return sha256_of_file(self.name) if self.content is None else hashlib.sha256(self.content).hexdigest()


class _NamedBytes(io.BytesIO):
    """The bytes of a file with its name, which messages about the image begin with."""

    def __init__(self, content: bytes, name: str) -> None:
        super().__init__(content)
        self.name = name


@dataclass(frozen=True)
class Outputs:
    """The outputs of both models for one image, for their common classes.

    Attributes:
        reference: the reference's probabilities, (classes,) float64.
        candidate: the candidate's probabilities, (classes,) float64.
        signal: sum of squares of the reference's outputs: logits if both models output logits, else probabilities.
        noise: sum of squares of the difference of the outputs.
        calibrated_on: whether one of the models was calibrated or refined on this image.
    """

    reference: npt.NDArray[np.float64]
    candidate: npt.NDArray[np.float64]
    signal: float
    noise: float
    calibrated_on: bool = False


@dataclass(frozen=True)
class Alignment:
    """The correspondence between the classes of two models.

    Attributes:
        classes: number of common classes.
        skips: number of classes before the common ones, of the reference and of the candidate: 1 for a background
            class, else 0.
        labels: names of the common classes, or empty.
        note: a sentence on the classes that were left out; None if there are none.
    """

    classes: int
    skips: tuple[int, int]
    labels: tuple[str, ...]
    note: str | None


def align(reference: Model, candidate: Model) -> Alignment:
    """Match the classes of two models; one or both may have a background class as class 0.

    Raises:
        InputError: the models' numbers of classes do not match.
    """
    difference = reference.classes - candidate.classes
    larger = reference if difference > 0 else candidate
    if difference == 0:  # the numbers of classes are equal, so both models have a background class or neither has
        background = int(_has_background(reference) or _has_background(candidate))
        skips = background, background
    elif abs(difference) == 1 and (_has_background(larger) or not larger.labels):
        skips = int(difference > 0), int(difference < 0)
    else:
        raise InputError(
            f"{reference.path} has {reference.classes} classes, {candidate.path} {candidate.classes}: "
            "they cannot be compared"
        )
    labels = reference.labels[skips[0] :] or candidate.labels[skips[1] :]
    note = None
    if any(skips):
        names = [str(m.path) for m, skip in zip((reference, candidate), skips, strict=True) if skip]
        note = f"left out class 0, background, of {' and '.join(names)}"
    return Alignment(reference.classes - skips[0], skips, labels, note)


def _has_background(model: Model) -> bool:
    if model.labels:
        return model.labels[0].lower() in ("background", "__background__")
    return model.classes == 1001  # ImageNet's 1000 classes in the models of TF-slim


class Pair:
    """A reference and a candidate to run on the same images. Not for several threads at the same time."""

    def __init__(self, reference: Model, candidate: Model, backend: Backend | None = None) -> None:
        """Match the models' classes.

        Args:
            reference: the reference, which runs in this process.
            candidate: the candidate; this object preprocesses the images and interprets the outputs.
            backend: the backend that runs the candidate; None for this process.
        """
        self.reference = reference
        self.candidate = candidate
        self._run_candidate = backend.run if backend else candidate.invoke
        self.alignment = align(reference, candidate)
        self._calibrated_on = reference.metadata.calibrated_on | candidate.metadata.calibrated_on

    def notes(self) -> list[str]:
        """Return notes on this pair of models; each is a sentence."""
        reference, candidate = self.reference, self.candidate
        made_from = candidate.metadata.provenance.get("reference_sha256")
        formats = [model.metadata.provenance.get("format") for model in (reference, candidate)]
        notes = [self.alignment.note] if self.alignment.note else []
        first, second = self.alignment.skips
        labels = reference.labels[first:], candidate.labels[second:]
        if formats[0] not in (None, "fp32") and formats[1] == "fp32":
            notes.append(f"the reference is {formats[0]} and the candidate fp32: are they the wrong way round?")
        elif made_from and made_from != reference.sha256:
            notes.append("the candidate was not made from this reference but from another network or conversion")
        if all(labels) and labels[0] != labels[1]:
            notes.append("the class names differ; classes are matched by index, so the agreement may mean nothing")
        if reference.preprocessing.geometry != candidate.preprocessing.geometry:
            notes.append("the two models see different pixels: their sizes, crops or colours differ")
        return notes

    def run(self, image: NamedImage) -> Outputs:
        """Run both models on one image, which is decoded only once if both use the same size, crop and channels.

        Raises:
            ImageError: the image cannot be decoded.
            ModelError: a model cannot be run.
        """
        reference, candidate = self.reference, self.candidate
        pixels = reference.preprocessing.pixels(image.source())
        reference_output = reference.invoke(reference.tensor(pixels))
        if candidate.preprocessing.geometry != reference.preprocessing.geometry:
            pixels = candidate.preprocessing.pixels(image.source())
        candidate_output = self._run_candidate(candidate.tensor(pixels))
        first, second = self.alignment.skips
        p = reference.probabilities(reference_output)[first:]
        q = candidate.probabilities(candidate_output)[second:]
        signal, difference = p, p - q
        if reference.gives_logits and candidate.gives_logits:
            signal = reference.dequantize(reference_output)[first:]
            difference = signal - candidate.dequantize(candidate_output)[second:]
        seen = bool(self._calibrated_on) and image.sha256()[:FINGERPRINT_LENGTH] in self._calibrated_on
        return Outputs(p, q, float(np.sum(signal**2)), float(np.sum(difference**2)), seen)


def latency_ms(models: list[Model], runs: int = 30, warm_up: int = 3, at_most_s: float = 3.0) -> list[float]:
    """Measure the median time of one inference of each model, in milliseconds.

    The models run alternately: if the machine's speed drifts, the ratio of their times is still right.

    Args:
        models: the models to measure, on black images.
        runs: number of timed inferences of each model.
        warm_up: number of inferences of each model before these.
        at_most_s: time limit in seconds. After it, the median of the inferences made so far is taken.
    """
    tensors: list[npt.NDArray[Any]] = []
    for model in models:
        spec = model.preprocessing
        tensors.append(model.tensor(np.zeros((spec.height, spec.width, len(spec.channels)), np.uint8)))
    return median_ms([partial(m.invoke, t) for m, t in zip(models, tensors, strict=True)], runs, warm_up, at_most_s)


def median_ms(
    calls: Sequence[Callable[[], object]], runs: int = 30, warm_up: int = 3, at_most_s: float = 3.0
) -> list[float]:
    """Measure the median time of each function in milliseconds, calling them alternately; see :func:`latency_ms`."""
    times: list[list[float]] = [[] for _ in calls]
    start = time.perf_counter()
    for run in range(warm_up + runs):
        for call, record in zip(calls, times, strict=True):
            before = time.perf_counter()
            call()
            if run >= warm_up or not record:
                record.append((time.perf_counter() - before) * 1000)
        if time.perf_counter() - start > at_most_s:
            break
    return [median(record) for record in times]


def open_both(
    reference: str | Path, candidate: str | Path, runtime: str | None = None, overrides: Overrides | None = None
) -> tuple[Model, Model, list[str]]:
    """Open two models. A model whose normalization is unknown uses the other's.

    Args:
        reference: the reference's .tflite file.
        candidate: the candidate's .tflite file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        overrides: preprocessing and labels to use instead of both files'.

    Returns:
        The reference, the candidate, and one sentence per normalization that was taken from the other model.

    Raises:
        ModelError: a model cannot be loaded.
        UnknownNormalizationError: the normalization of both models is unknown.
    """
    overrides = overrides or Overrides()
    models: list[Model] = []
    notes = []
    for path, other in ((reference, candidate), (candidate, reference)):
        try:
            models.append(Model(path, runtime=runtime, overrides=overrides))
        except UnknownNormalizationError:
            spec = Model(other, runtime=runtime, overrides=overrides).preprocessing
            borrowed = replace(overrides, normalization=(spec.mean, spec.std))
            models.append(Model(path, runtime=runtime, overrides=borrowed))
            notes.append(f"took the normalization of {path} from {other}")
    return models[0], models[1], notes


@contextlib.contextmanager
def candidate_backend(
    on: str | Backend | None, model: Path, progress: Progress
) -> Iterator[tuple[Backend | None, tuple[str, ...]]]:
    """Open the candidate's backend; yield it, or None if the candidate runs in this process, and notes about it."""
    if not isinstance(on, str):
        yield on, ()
        return
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.setup import connected  # imported here: only devices need SSH

    with connected(on, progress) as device:
        emulated = device.machine().emulated_by is not None
        note = f"{on} is emulated, so the candidate's latency is not a board's"
        yield DeviceBackend(device, model), (note,) if emulated else ()
