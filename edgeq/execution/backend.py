"""Execution backends: what runs a model's tensors in another process.

:mod:`edgeq.device.backend` has the one for devices.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.execution.process import Closing, WorkerProcess

__all__ = ["Backend", "LoadedModel", "Turn", "WorkerBackend"]


@dataclass(frozen=True)
class LoadedModel:
    """How a model was loaded in a separate process.

    Attributes:
        runtime: its name.
        import_ms: importing the runtime.
        load_ms: reading the model and preparing it.
        delegated: whether XNNPACK took over operators.
    """

    runtime: str
    import_ms: float
    load_ms: float
    delegated: bool


@dataclass(frozen=True)
class Turn:
    """What a model's process measured while it ran for a moment.

    Attributes:
        times_ms: of each inference.
        peak_rss_bytes: the most memory that the process ever had resident; None where the system does not say.
    """

    times_ms: list[float]
    peak_rss_bytes: int | None


class Backend(Closing, ABC):
    """A model in another process, on this machine or on a device. Serves several threads, one after the other.

    Attributes:
        name: ``here`` for this machine, or the device as the user named it.
        runtime: name and version; known from the first run on.
        kernels: one of ``edgeq.runtime.KERNELS``.
        times_ms: of each run, on the backend's own clock.
    """

    name = "here"

    def __init__(self, path: str, runtime: str | None, threads: int, kernels: str) -> None:
        """Remember what to ask for; the model is loaded by :meth:`open` or the first run.

        Args:
            path: what the other process calls the .tflite file.
            runtime: a name in ``edgeq.runtime.RUNTIMES``; None takes the fastest.
            threads: how many the interpreter may use.
            kernels: one of ``edgeq.runtime.KERNELS``.
        """
        self.kernels, self.runtime = kernels, runtime or "?"
        self.times_ms: list[float] = []
        self._model = {"path": path, "runtime": runtime, "threads": threads, "kernels": kernels}

    @abstractmethod
    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """Let the other process do an operation of :mod:`edgeq.execution.worker` with the model.

        Raises:
            EdgeqError: it fails, or the process ended.
        """

    def open(self, cold: bool = False) -> LoadedModel:
        """Load the model, if it is not loaded.

        Args:
            cold: whether to read the file from disk, even where the system has it in memory.

        Raises:
            EdgeqError: the runtime is not installed, or does not support the model.
        """
        loaded = LoadedModel(**self.ask("open", cold=cold)[0])
        self.runtime = loaded.runtime
        return loaded

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run an input tensor.

        Args:
            tensor: of the input's shape and type.

        Returns:
            The output tensor as the network has it, not dequantized.

        Raises:
            EdgeqError: the model cannot be run, or the process that ran it ended.
        """
        return self.output("run", np.ascontiguousarray(tensor).tobytes())[0]

    def time(self, seconds: float, at_least: int = 1) -> Turn:
        """Run the model on noise, again and again.

        Args:
            seconds: for how long.
            at_least: how many inferences to run, however long they take.

        Raises:
            EdgeqError: it cannot be run, or the process ended.
        """
        return Turn(**self.ask("time", seconds=seconds, at_least=at_least)[0])

    def output(self, do: str, payload: bytes = b"", **request: Any) -> tuple[npt.NDArray[Any], dict[str, float]]:
        """Ask for an operation that runs the model once.

        Returns:
            The output tensor, and the time of each step in ms.
        """
        answer, data = self.ask(do, payload, **request)
        self.runtime = answer["runtime"]
        self.times_ms.append(answer["times_ms"]["invoke"])
        return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"]), answer["times_ms"]


class WorkerBackend(Backend):
    """A model in a worker process on this machine."""

    def __init__(
        self, path: str | Path, runtime: str | None = None, threads: int = 1, kernels: str = "default"
    ) -> None:
        """Start the process; for the arguments see :class:`Backend`."""
        super().__init__(str(path), runtime, threads, kernels)
        self._process = WorkerProcess(f"{path}: its process{f' under {runtime}' if runtime else ''}")

    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """See :meth:`Backend.ask`."""
        return self._process.ask(do, payload, model=self._model, **request)

    def close(self) -> None:
        """End the process."""
        self._process.close()
