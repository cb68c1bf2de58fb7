"""Execution backends that run a model in another process.

The backend for devices is in :mod:`edgeq.device.backend`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.closing import Closing
from edgeq.errors import EdgeqError, one_line
from edgeq.execution.process import WorkerProcess
from edgeq.runtime.admission import admit
from edgeq.runtime.backends import choose_runtime

__all__ = ["Backend", "LoadedModel", "Turn", "WorkerBackend"]


@dataclass(frozen=True)
class LoadedModel:
    """Facts about a model that was loaded in a separate process.

    Attributes:
        runtime: the runtime's name.
        import_ms: time to import the runtime, in milliseconds.
        load_ms: time to read the model and allocate its tensors, in milliseconds.
        delegated: whether XNNPACK runs some of the operators.
    """

    runtime: str
    import_ms: float
    load_ms: float
    delegated: bool


@dataclass(frozen=True)
class Turn:
    """The measurements of one turn, in which a model's process runs it repeatedly.

    Attributes:
        times_ms: time of each inference, in milliseconds.
        peak_rss_bytes: peak resident memory of the process since its start; None if unknown.
    """

    times_ms: list[float]
    peak_rss_bytes: int | None


class Backend(Closing, ABC):
    """The interface of an execution backend, which runs a model in another process, on this machine or on a device.

    Several threads may use it; their requests are served one by one.

    Attributes:
        name: ``here`` for this machine, or the device as the user named it.
        runtime: the runtime's name and version; complete only after the first run.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        times_ms: the inference time of each run so far in milliseconds, measured by the backend.
    """

    name = "here"

    def __init__(self, path: str, runtime: str | None, threads: int, kernels: str, trust: bool = False) -> None:
        """Store the settings; :meth:`open` or the first run loads the model.

        Args:
            path: the name of the .tflite file in the other process.
            runtime: a name in ``edgeq.runtime.RUNTIMES``; None for the fastest runtime.
            threads: number of threads that the interpreter may use.
            kernels: a name in ``edgeq.runtime.KERNELS``.
            trust: whether the other process loads the file without a trial.
        """
        self.kernels, self.runtime = kernels, runtime or "?"
        self.times_ms: list[float] = []
        self._model: dict[str, Any] = {
            "path": path,
            "runtime": runtime,
            "threads": threads,
            "kernels": kernels,
            "trust": trust,
        }

    @abstractmethod
    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """Request an operation on the model from the other process.

        For the arguments and the result see :meth:`edgeq.execution.process.WorkerProcess.ask`.

        Raises:
            EdgeqError: the operation failed, or the process ended.
        """

    def open(self, cold: bool = False) -> LoadedModel:
        """Load the model, unless it is loaded already.

        Args:
            cold: whether to remove the file from the system's page cache first, so that it is read from disk.

        Raises:
            EdgeqError: the runtime is not installed, or does not support the model.
        """
        loaded = LoadedModel(**self.ask("open", cold=cold)[0])
        self.runtime = loaded.runtime
        return loaded

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run the model on an input tensor.

        Args:
            tensor: the input, of the input's shape and type.

        Returns:
            The output tensor, not dequantized.

        Raises:
            EdgeqError: the model cannot be run, or the process that ran it ended.
        """
        return self.run_all([tensor])[0]

    def run_all(self, tensors: Sequence[npt.NDArray[Any]]) -> list[npt.NDArray[Any]]:
        """Run the model on its input tensors.

        Args:
            tensors: one array per input, of the input's shape and type, in the file's order.

        Returns:
            The output tensors, not dequantized, in the file's order.

        Raises:
            EdgeqError: the model cannot be run, or the process that ran it ended.
        """
        return self.outputs("run", b"".join(np.ascontiguousarray(tensor).tobytes() for tensor in tensors))[0]

    def time(self, seconds: float, at_least: int = 1) -> Turn:
        """Run the model repeatedly on noise and measure the time of each inference.

        Args:
            seconds: how long to run it.
            at_least: smallest number of inferences, even if they take longer.

        Raises:
            EdgeqError: the model cannot be run, or the process ended.
        """
        return Turn(**self.ask("time", seconds=seconds, at_least=at_least)[0])

    def outputs(self, do: str, payload: bytes = b"", **request: Any) -> tuple[list[npt.NDArray[Any]], dict[str, float]]:
        """Request an operation that runs the model once; for the arguments see :meth:`ask`.

        Returns:
            The output tensors, and the time of each step in milliseconds, by name.

        Raises:
            EdgeqError: the operation failed, or the answer is none.
        """
        answer, data = self.ask(do, payload, **request)
        try:
            return self._read_outputs(answer, data)
        except (KeyError, TypeError, ValueError) as error:
            raise EdgeqError(f"{self.name}: answers what edgeq does not understand: {one_line(error)}") from None

    def _read_outputs(self, answer: dict[str, Any], data: bytes) -> tuple[list[npt.NDArray[Any]], dict[str, float]]:
        self.runtime = answer["runtime"]
        self.times_ms.append(answer["times_ms"]["invoke"])
        outputs: list[npt.NDArray[Any]] = []
        offset = 0
        for dtype, shape in answer["outputs"]:
            values = np.frombuffer(data, dtype, int(np.prod(shape)), offset)
            outputs.append(values.reshape(shape))
            offset += values.nbytes
        return outputs, answer["times_ms"]


class WorkerBackend(Backend):
    """A backend for a model in a worker process on this machine."""

    def __init__(
        self, path: str | Path, runtime: str | None = None, threads: int = 1, kernels: str = "default"
    ) -> None:
        """Start the process; for the arguments see :class:`Backend`."""
        super().__init__(str(path), runtime, threads, kernels, trust=True)
        self._admitted = False
        self._process = WorkerProcess(f"{path}: its process{f' under {runtime}' if runtime else ''}")

    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """See :meth:`Backend.ask`."""
        if not self._admitted:
            # In this process, so that it does not count in the time and memory of the worker.
            model = self._model
            admit(model["path"], model["runtime"] or choose_runtime(), model["threads"], model["kernels"])
            self._admitted = True
        return self._process.ask(do, payload, model=self._model, **request)

    def close(self) -> None:
        """End the process."""
        self._process.close()
