"""Open a .tflite file as what it is: an image classifier, or a model of plain tensors."""

from __future__ import annotations

from pathlib import Path

from edgeq.runtime.model import Model
from edgeq.runtime.tensor_model import TensorModel
from edgeq.tflite.checking import check_file
from edgeq.tflite.metadata import Overrides, read_metadata
from edgeq.tflite.task import TENSORS, read_task

__all__ = ["open_model"]


def open_model(
    path: str | Path,
    *,
    task: str | None = None,
    runtime: str | None = None,
    threads: int = 1,
    kernels: str = "default",
    overrides: Overrides | None = None,
    trust: bool = False,
) -> Model | TensorModel:
    """Open a model.

    Args:
        path: a .tflite file.
        task: what its outputs mean, one of ``edgeq.tflite.task.TASKS``; None to read it from the file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        threads: number of threads that the interpreter may use.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        overrides: preprocessing and labels to use instead of a classifier's own.
        trust: whether to load a file that was never opened on this machine without a trial in another process.

    Raises:
        ModelError: the file is not a .tflite model, or the runtime cannot load it.
        UnknownNormalizationError: a classifier does not state its normalization, and it cannot be derived.
        InputError: an argument does not fit the model, or is unknown.
        RuntimeUnavailableError: the requested runtime, or every runtime, is missing or unusable.
    """
    check_file(path)
    metadata = read_metadata(path)
    if read_task(path, task, metadata) == TENSORS:
        return TensorModel(path, runtime=runtime, threads=threads, kernels=kernels, metadata=metadata, trust=trust)
    return Model(
        path, runtime=runtime, threads=threads, kernels=kernels, overrides=overrides, metadata=metadata, trust=trust
    )
