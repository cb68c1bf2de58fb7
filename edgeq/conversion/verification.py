"""Verify a converted file in the runtime.

The check runs in a worker process for two reasons. Some files make a runtime abort its process, which would end the
conversion. And tflite-runtime does not work in a process that has imported TensorFlow.
"""

from __future__ import annotations

import signal
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from edgeq.arrays import npz_bytes
from edgeq.conversion.formats import Format
from edgeq.errors import ConversionError, EdgeqError, WorkerDiedError
from edgeq.execution.converted_file import PIXELS, check
from edgeq.execution.process import WorkerProcess

__all__ = ["verify"]


def verify(
    worker: WorkerProcess,
    path: Path,
    name: str,
    form: Format,
    io: str,
    sample: Any,
    in_float: Collection[str] = (),
) -> None:
    """Load a converted file, check that it is what was requested, and run it on one sample.

    Args:
        worker: the process to run the file in; it imports the runtime for the first file only.
        path: the file, complete with its metadata.
        name: the file's name in error messages.
        form: the requested format.
        io: the requested type of the input and output of an ``int8`` file, one of `IO_TYPES`.
        sample: for a classifier an image, (height, width, channels) uint8; for other models one array per input, by
            name.
        in_float: names of the outputs of the operators that are in float on purpose.

    Raises:
        ConversionError: the file does not run, or is not what was requested. The message names any operators that are
            not integer.
    """
    arguments = {"path": str(path), "form": form.name, "io": io, "in_float": sorted(in_float)}
    content = npz_bytes(**(sample if isinstance(sample, Mapping) else {PIXELS: sample}))
    try:
        worker.ask("call", bytes(content), function=f"{check.__module__}:{check.__name__}", arguments=arguments)
    except EdgeqError as error:
        problem = str(error).replace(str(path), name)
        if isinstance(error, WorkerDiedError) and error.code == -signal.SIGABRT:
            problem += "; often because activations are nearly zero, as in a network without trained weights"
        raise ConversionError(f"{name}: the converted file fails its verification: {problem}") from None
