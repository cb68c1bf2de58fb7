"""Comparing one model across execution backends: every image once, the same tensor everywhere."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.comparison.dataset import read_images
from edgeq.comparison.metrics import shared_top1, top_set
from edgeq.errors import DeviceError, EdgeqError, ImageError, InputError
from edgeq.execution.backend import Backend, WorkerBackend
from edgeq.images import NOT_AN_IMAGE
from edgeq.progress import Progress, no_progress
from edgeq.runtime import Model
from edgeq.tflite.metadata import Overrides

__all__ = ["BackendComparison", "BackendFlip", "BackendResult", "compare_backends", "compare_open_backends"]


@dataclass(frozen=True)
class BackendFlip:
    """An image whose most probable class is another on a backend than on the reference.

    Attributes:
        file: the image.
        reference: label of the reference's class.
        backend: label of the backend's.
    """

    file: str
    reference: str
    backend: str


@dataclass(frozen=True)
class BackendResult:
    """The outputs of one backend for all images, against the reference.

    Attributes:
        name: ``here`` for this machine, or the device.
        runtime: name and version.
        kernels: one of ``edgeq.runtime.KERNELS``.
        images: how many it ran.
        differing_images: how many of them have an output that differs.
        values: number of output values.
        differing_values: how many of them differ.
        largest_difference: between two output values: in integer steps, or for floats in their own unit.
        flips: images whose most probable classes have none in common.
        error: why it failed on the way, or None.
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
        model: the file.
        sha256: its digest.
        images: how many were run.
        skipped: files that could not be read, each with the reason.
        backends: the first is the reference.
        failures: why devices could not take part.
    """

    model: str
    sha256: str
    images: int
    skipped: tuple[tuple[str, str], ...]
    backends: tuple[BackendResult, ...]
    failures: tuple[str, ...] = ()

    @property
    def errors(self) -> tuple[str, ...]:
        """All errors without duplicates: `failures`, and those of backends that failed on the way."""
        ended = [backend.error for backend in self.backends if backend.error]
        return tuple(dict.fromkeys([*self.failures, *ended]))

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data: the attributes without `failures`; its key for backends is ``places``."""
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
    progress: Progress = no_progress,
) -> BackendComparison:
    """Run a model on every image under several runtimes and on devices, and say how far the outputs differ.

    The reference is TFLite's reference kernels on this machine. Each runtime runs in a separate process; each device
    runs the model with its fastest runtime, under the reference kernels and under the default ones.

    Args:
        model: .tflite file of an image classifier.
        data: folder of images.
        runtimes: names in ``edgeq.runtime.RUNTIMES``; empty takes ``EDGEQ_RUNTIME`` or the fastest.
        on: a device or several, ``[user@]host[:port]``; those that cannot be used end up in `failures`.
        overrides: what the caller knows better than the file.
        progress: called while files travel, then with ("Comparing", images done, images in all).

    Returns:
        The counts of each backend; one that failed on the way has its `error`.

    Raises:
        InputError: there are no images, or a host is malformed.
        ModelError: the model cannot be loaded.
        EdgeqError: a runtime of this machine does not run it.
    """
    opened = Model(model, overrides=overrides)
    read_images(data)  # fails before a device is contacted
    backends: list[Backend] = []
    failures: list[str] = []
    with contextlib.ExitStack() as stack:
        here = [(opened.runtime, "reference"), *((runtime, "default") for runtime in runtimes or [opened.runtime])]
        for runtime, kernels in here:
            worker = stack.enter_context(contextlib.closing(WorkerBackend(model, runtime, kernels=kernels)))
            worker.open()
            backends.append(worker)
        for host in dict.fromkeys([on] if isinstance(on, str) else on):
            try:
                backends += _open_device(host, opened, stack, progress)
            except DeviceError as error:
                failures.append(str(error))
        return replace(compare_open_backends(opened, data, backends, progress), failures=tuple(failures))


def _open_device(host: str, model: Model, stack: contextlib.ExitStack, progress: Progress) -> list[Backend]:
    """A device under the reference kernels and under the default ones, connected until the stack is left."""
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.setup import connected  # SSH, which this machine does not need

    device = stack.enter_context(connected(host, progress))
    return [DeviceBackend(device, model.path, kernels=kernels) for kernels in ("reference", "default")]


def compare_open_backends(
    model: Model,
    data: str | Path,
    backends: Sequence[Backend],
    progress: Progress = no_progress,
) -> BackendComparison:
    """Run a model on every image on backends that are open already; see :func:`compare_backends`.

    Args:
        model: that all backends run; it prepares the images.
        data: folder of images.
        backends: the first is what the others are compared with. One that fails drops out, and the rest go on.
        progress: called with ("Comparing", images done, images in all).

    Raises:
        InputError: there are no images.
        EdgeqError: the first backend failed.
    """
    counts = [_BackendCounts(backend, model.labels) for backend in backends]
    skipped: list[tuple[str, str]] = []
    images, others = read_images(data)
    with ThreadPoolExecutor(len(backends)) as pool:
        for done, path in enumerate(images):
            progress("Comparing", done, len(images))
            try:
                tensor = model.tensor(model.preprocessing.pixels(path))
            except ImageError as error:
                skipped.append((str(path), str(error).removeprefix(f"{path}: ")))
                continue
            outputs = list(pool.map(lambda count: count.run(tensor), counts))  # noqa: B023 (done before the next)
            if outputs[0] is None:
                raise EdgeqError(counts[0].error)
            for count, output in zip(counts, outputs, strict=True):
                if output is not None:
                    count.add(str(path), outputs[0], output)
    progress("Comparing", len(images), len(images))
    if len(skipped) == len(images):
        raise InputError(f"{data}: none of its {len(images)} files is an image that can be read")
    results = tuple(count.result() for count in counts)
    ran = len(images) - len(skipped)
    skipped += [(str(path), NOT_AN_IMAGE) for path in others]
    return BackendComparison(str(model.path), model.sha256, ran, tuple(skipped), results)


@dataclass
class _BackendCounts:
    """The sums of one backend."""

    backend: Backend
    labels: Sequence[str]
    error: str | None = None
    images: int = 0
    differing_images: int = 0
    values: int = 0
    differing_values: int = 0
    largest: float = 0.0
    flips: list[BackendFlip] = field(default_factory=list)

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """The backend's output; None once it has failed."""
        if self.error is not None:
            return None
        try:
            return self.backend.run(tensor)
        except EdgeqError as error:
            self.error = str(error)
            return None

    def add(self, file: str, reference: npt.NDArray[Any], output: npt.NDArray[Any]) -> None:
        expected, found = reference.reshape(-1), output.reshape(-1)
        differing = int(np.count_nonzero(expected != found))
        self.images += 1
        self.values += expected.size
        self.differing_values += differing
        self.differing_images += differing > 0
        self.largest = max(self.largest, float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max()))
        if shared_top1(top_set(expected), top_set(found)) == 0:
            self.flips.append(BackendFlip(file, self._name(expected), self._name(found)))

    def result(self) -> BackendResult:
        backend = self.backend
        counts = (self.images, self.differing_images, self.values, self.differing_values, self.largest)
        return BackendResult(backend.name, backend.runtime, backend.kernels, *counts, tuple(self.flips), self.error)

    def _name(self, output: npt.NDArray[Any]) -> str:
        index = int(output.argmax())
        return self.labels[index] if len(self.labels) == output.size else str(index)
