"""Run a model of plain tensors on samples, on this host or on devices."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from edgeq.arrays import npz_bytes
from edgeq.errors import EdgeqError, InputError
from edgeq.files import replacing
from edgeq.inference.classify import MOST_THREADS
from edgeq.progress import Progress, no_progress
from edgeq.runtime import TensorModel, available_cores
from edgeq.samples import SampleReader, Samples, find_samples
from edgeq.tflite.metadata import Overrides

if TYPE_CHECKING:
    from edgeq.device.device import Device

__all__ = ["TensorAnswer", "infer_tensors", "write_answers"]


@dataclass(frozen=True)
class TensorAnswer:
    """A model's outputs for one sample.

    Attributes:
        file: the sample's file, or the file and the sample's number; None if a device failed.
        outputs: real numbers, float64 of each output's shape, by name; empty if there is an error.
        times_ms: time of each step in milliseconds, by name.
        device: the device that ran the model; None for this host.
        error: why there are no outputs, or None.
    """

    file: str | None
    outputs: Mapping[str, npt.NDArray[np.float64]] = field(default_factory=dict)
    times_ms: Mapping[str, float] = field(default_factory=dict)
    device: str | None = None
    error: EdgeqError | None = None

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: shape, smallest, largest and mean value of each output, without all values."""
        document: dict[str, Any] = {"file": self.file}
        if self.device is not None:
            document["device"] = self.device
        if self.error is not None:
            return document | {"error": str(self.error)}
        facts = {
            name: {"shape": list(v.shape), "min": float(v.min()), "max": float(v.max()), "mean": float(v.mean())}
            for name, v in self.outputs.items()
            if v.size
        }
        return document | {"outputs": facts, "times_ms": dict(self.times_ms)}


def infer_tensors(
    data: str | Path | Sequence[str | Path],
    model: str | Path | TensorModel,
    *,
    runtime: str | None = None,
    threads: int | None = None,
    kernels: str = "default",
    overrides: Overrides | None = None,
    on: str | Sequence[str] = (),
    progress: Progress = no_progress,
) -> Iterator[TensorAnswer]:
    """Run a model of plain tensors on samples, one by one.

    Args:
        data: a folder of ``.npz``, ``.npy`` or image files with one sample each, a list of such files, or one ``.npz``
            or ``.npy`` file with samples in its first dimension. Each array has an input's name and shape and holds
            real numbers.
        model: a .tflite file, or a loaded `TensorModel`.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        threads: number of threads that the interpreter may use; None for the number of cores, up to 4.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        overrides: preprocessing of images to use instead of the file's, for a model that takes images.
        on: devices to run the model on, ``[user@]host[:port]``, all at the same time.
        progress: called while files are sent to one device; for several devices, with the number that have finished.

    Yields:
        One answer per sample, in order. A sample that cannot be read, or a device that fails, gives an answer with an
        ``error``; the others are not affected.

    Raises:
        ModelError: the model cannot be loaded or run on this host.
        InputError: there are no samples, or an option does not fit the model.
        RuntimeUnavailableError: the requested runtime, or every runtime, is missing or unusable.
    """
    hosts = [on] if isinstance(on, str) else list(on)
    threads = threads or (MOST_THREADS if hosts else min(MOST_THREADS, available_cores()))
    if not isinstance(model, TensorModel):
        model = TensorModel(model, runtime=None if hosts else runtime, threads=threads, kernels=kernels)
    samples = find_samples(data, SampleReader.of(model.path, model.inputs, model.metadata, overrides))
    if hosts:
        yield from _run_on(hosts, model, samples, (runtime, threads, kernels), progress)
        return
    for number, name in enumerate(samples.names):
        try:
            tensors = model.tensors(samples.read(number))
        except InputError as error:
            yield TensorAnswer(name, error=error)
            continue
        start = perf_counter()
        outputs = model.invoke(tensors)
        invoke_ms = (perf_counter() - start) * 1000
        yield TensorAnswer(name, model.dequantize(outputs), {"invoke": round(invoke_ms, 3)})


def _run_on(
    hosts: Sequence[str],
    model: TensorModel,
    samples: Samples,
    settings: tuple[str | None, int, str],
    progress: Progress,
) -> Iterator[TensorAnswer]:
    """Run the model on several devices at the same time; yield all answers of one device, then those of the next."""
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.fleet import on_each  # imported here: only devices need SSH

    def run(device: Device) -> list[TensorAnswer]:
        backend, answers = DeviceBackend(device, model.path, *settings), []
        for number, name in enumerate(samples.names):
            try:
                tensors = model.tensors(samples.read(number))
            except InputError as error:
                answers.append(TensorAnswer(name, device=backend.name, error=error))
                continue
            outputs = model.dequantize(backend.run_all(tensors))
            answers.append(TensorAnswer(name, outputs, {"invoke": backend.times_ms[-1]}, backend.name))
        return answers

    for outcome in on_each(hosts, run, progress):
        yield from outcome.result or ()
        if outcome.error is not None:
            yield TensorAnswer(None, device=outcome.device, error=outcome.error)


def write_answers(answers: Sequence[TensorAnswer], path: str | Path) -> None:
    """Write outputs to a .npz file: one float32 array per output, by name.

    An array has the output's shape for one sample, and (samples, ...) for several.

    Args:
        answers: the answers, all of one model; those with an error are left out.
        path: the file to write; an existing file is replaced as a whole or not at all.

    Raises:
        InputError: there are no outputs, or the file cannot be written.
    """
    found = [answer.outputs for answer in answers if answer.error is None]
    if not found:
        raise InputError(f"{path}: not written, because there are no outputs")
    arrays = {name: np.concatenate([o[name] for o in found]).astype(np.float32) for name in found[0]}
    with replacing([Path(path)]) as (part,):
        part.write_bytes(npz_bytes(**arrays))
