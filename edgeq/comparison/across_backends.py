"""Compare the outputs of one model across execution backends, which all get the same input tensors."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.comparison.dataset import read_images
from edgeq.comparison.metrics import shared_top1, top_set
from edgeq.errors import DeviceError, EdgeqError, InputError
from edgeq.execution.backend import Backend, WorkerBackend
from edgeq.images import NOT_AN_IMAGE
from edgeq.progress import Progress, no_progress
from edgeq.runtime import Model, TensorModel, open_model
from edgeq.samples import SampleReader, find_samples, holds_arrays
from edgeq.tflite.metadata import Overrides
from edgeq.tflite.task import TENSORS

__all__ = ["BackendComparison", "BackendFlip", "BackendResult", "compare_backends", "compare_open_backends"]


@dataclass(frozen=True)
class BackendFlip:
    """An image whose most probable class on a backend differs from that on the reference backend.

    Attributes:
        file: the image's path.
        reference: label of the most probable class on the reference backend.
        backend: label of the most probable class on this backend.
    """

    file: str
    reference: str
    backend: str


@dataclass(frozen=True)
class BackendResult:
    """The differences between one backend's outputs and those of the reference backend.

    Attributes:
        name: ``here`` for this machine, or the device's name.
        runtime: the runtime's name and version.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        images: number of images that the backend ran.
        differing_images: number of images with at least one differing output value.
        values: number of output values, over all images.
        differing_values: number of output values that differ.
        largest_difference: largest absolute difference of two output values: in integer steps for an integer output, in
            real units for a float output.
        flips: images whose most probable class differs; where classes tie, only if the tied sets have no common class.
        error: why the backend failed during the comparison, or None.
    """

    name: str
    runtime: str
    kernels: str
    images: int
    differing_images: int
    values: int
    differing_values: int
    largest_difference: float
    flips: tuple[BackendFlip, ...]
    error: str | None


@dataclass(frozen=True)
class BackendComparison:
    """The differences between the outputs of one model on several backends.

    Attributes:
        model: the model's path.
        sha256: SHA-256 digest of the model's file, in hexadecimal.
        images: number of images that were run.
        skipped: files that were not run, each with the reason.
        backends: one result per backend, the reference first.
        failures: errors of devices that could not be used at all.
    """

    model: str
    sha256: str
    images: int
    skipped: tuple[tuple[str, str], ...]
    backends: tuple[BackendResult, ...]
    failures: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors without duplicates: `failures`, and the errors of backends that failed during the comparison."""
        ended = [backend.error for backend in self.backends if backend.error]
        return tuple(dict.fromkeys([*self.failures, *ended]))

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: the attributes without `failures`, and with ``places`` as the key of `backends`."""
        data = asdict(self)
        data["places"] = data.pop("backends")
        for flip in (flip for place in data["places"] for flip in place["flips"]):
            flip["place"] = flip.pop("backend")
        del data["failures"]
        return data


def compare_backends(
    model: str | Path,
    data: str | Path,
    *,
    runtimes: Sequence[str] = (),
    on: str | Sequence[str] = (),
    overrides: Overrides | None = None,
    task: str | None = None,
    progress: Progress = no_progress,
) -> BackendComparison:
    """Run a model on every image or sample with several runtimes and on devices, and measure how the outputs differ.

    All outputs are compared with those of TFLite's reference kernels on this machine. Each runtime runs in a separate
    process, with its default kernels. Each device runs the model with its fastest runtime, once with the reference
    kernels and once with the default ones.

    Args:
        model: the .tflite file.
        data: folder of images; for models of plain tensors samples, see `edgeq.samples.find_samples`.
        runtimes: names in ``edgeq.runtime.RUNTIMES``; empty to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        on: one or several devices, ``[user@]host[:port]``. The errors of unusable devices are in `failures`.
        overrides: preprocessing and labels to use instead of the file's.
        task: ``classification`` or ``tensors``; None to read it from the file. ``tensors`` if the data are arrays.
        progress: called while files are sent, then with ("Comparing", images done, number of images).

    Returns:
        The differences on each backend. A backend that failed during the comparison has an `error`.

    Raises:
        InputError: there are no images, or a device's address is malformed.
        ModelError: the model cannot be loaded.
        EdgeqError: a runtime on this machine cannot run the model.
    """
    opened = open_model(model, task=task or (TENSORS if holds_arrays(data) else None), overrides=overrides)
    source = _source(opened, data, overrides)  # raises an error before any device is contacted
    backends: list[Backend] = []
    failures: list[str] = []
    with contextlib.ExitStack() as stack:
        here = [(opened.runtime, "reference"), *((runtime, "default") for runtime in runtimes or [opened.runtime])]
        for runtime, kernels in here:
            worker = stack.enter_context(WorkerBackend(model, runtime, kernels=kernels))
            worker.open()
            backends.append(worker)
        for host in dict.fromkeys([on] if isinstance(on, str) else on):
            try:
                backends += _open_device(host, opened, stack, progress)
            except DeviceError as error:
                failures.append(str(error))
        return replace(_compare(opened, source, backends, progress), failures=tuple(failures))


def _open_device(
    host: str, model: Model | TensorModel, stack: contextlib.ExitStack, progress: Progress
) -> list[Backend]:
    """Connect to a device until the stack closes; return its backends with the reference and the default kernels."""
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.setup import connected  # imported here: only devices need SSH

    device = stack.enter_context(connected(host, progress))
    return [DeviceBackend(device, model.path, kernels=kernels) for kernels in ("reference", "default")]


def compare_open_backends(
    model: Model | TensorModel,
    data: str | Path,
    backends: Sequence[Backend],
    progress: Progress = no_progress,
) -> BackendComparison:
    """Run a model on every image on backends that are already open; see :func:`compare_backends`.

    Args:
        model: the model that all backends run; this object preprocesses the images.
        data: folder of images.
        backends: the backends, the reference first. If another one fails, the comparison goes on without it.
        progress: called with ("Comparing", images done, number of images).

    Raises:
        InputError: there are no images.
        EdgeqError: the first backend failed.
    """
    return _compare(model, _source(model, data, None), backends, progress)


@dataclass(frozen=True)
class _Source:
    """What the model runs on.

    Attributes:
        names: the images' paths, or the samples' names.
        tensors: returns the input tensors of one image or sample, by its position.
        skipped: files that were not opened, each with the reason.
        data: the name of all in error messages.
    """

    names: tuple[str, ...]
    tensors: Callable[[int], tuple[npt.NDArray[Any], ...]]
    skipped: tuple[tuple[str, str], ...]
    data: str | Path


def _source(model: Model | TensorModel, data: str | Path, overrides: Overrides | None) -> _Source:
    if isinstance(model, Model):
        images, others = read_images(data)
        skipped = tuple((str(path), NOT_AN_IMAGE) for path in others)
        names = tuple(map(str, images))
        return _Source(names, lambda n: model.tensors(model.preprocessing.pixels(images[n])), skipped, data)
    samples = find_samples(data, SampleReader.of(model.path, model.inputs, model.metadata, overrides))
    skipped = tuple((str(path), reason) for path, reason in samples.skipped)
    return _Source(samples.names, lambda n: model.tensors(samples.read(n)), skipped, data)


def _compare(
    model: Model | TensorModel, source: _Source, backends: Sequence[Backend], progress: Progress
) -> BackendComparison:
    counts = [_BackendCounts(backend, model.labels if isinstance(model, Model) else None) for backend in backends]
    skipped: list[tuple[str, str]] = []
    total = len(source.names)
    with ThreadPoolExecutor(len(backends)) as pool:
        for done, name in enumerate(source.names):
            progress("Comparing", done, total)
            try:
                tensors = source.tensors(done)
            except InputError as error:
                skipped.append((name, str(error).removeprefix(f"{name}: ")))
                continue
            outputs = list(pool.map(lambda count: count.run(tensors), counts))  # noqa: B023 (done before the next)
            if outputs[0] is None:
                raise EdgeqError(counts[0].error)
            for count, output in zip(counts, outputs, strict=True):
                if output is not None:
                    count.add(name, outputs[0], output)
    progress("Comparing", total, total)
    if len(skipped) == total:
        what = "images" if isinstance(model, Model) else "samples"
        reason = "" if isinstance(model, Model) else f" ({skipped[0][1]})"
        raise InputError(f"{source.data}: none of its {total} {what} can be read{reason}")
    results = tuple(count.result() for count in counts)
    ran = total - len(skipped)
    skipped += source.skipped
    return BackendComparison(str(model.path), model.sha256, ran, tuple(skipped), results)


@dataclass
class _BackendCounts:
    """The running counts of one backend."""

    backend: Backend
    labels: Sequence[str] | None  # None for a model of plain tensors
    error: str | None = None
    images: int = 0
    differing_images: int = 0
    values: int = 0
    differing_values: int = 0
    largest: float = 0.0
    flips: list[BackendFlip] = field(default_factory=list)

    def run(self, tensors: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]] | None:
        """Return the backend's outputs, or None if it fails now or failed before."""
        if self.error is not None:
            return None
        try:
            return self.backend.run_all(tensors)
        except EdgeqError as error:
            self.error = str(error)
            return None

    def add(self, file: str, reference: list[npt.NDArray[Any]], outputs: list[npt.NDArray[Any]]) -> None:
        expected, found = (np.concatenate([np.ravel(output) for output in side]) for side in (reference, outputs))
        differing = int(np.count_nonzero(expected != found))
        self.images += 1
        self.values += expected.size
        self.differing_values += differing
        self.differing_images += differing > 0
        self.largest = max(self.largest, float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max()))
        if self.labels is not None and shared_top1(top_set(expected), top_set(found)) == 0:
            self.flips.append(BackendFlip(file, self._name(expected), self._name(found)))

    def result(self) -> BackendResult:
        backend = self.backend
        counts = (self.images, self.differing_images, self.values, self.differing_values, self.largest)
        return BackendResult(backend.name, backend.runtime, backend.kernels, *counts, tuple(self.flips), self.error)

    def _name(self, output: npt.NDArray[Any]) -> str:
        index = int(output.argmax())
        labels = self.labels or ()
        return labels[index] if len(labels) == output.size else str(index)
