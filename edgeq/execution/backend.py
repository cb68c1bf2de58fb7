"""Where a model can run: in a process here under any runtime, or on a device."""

from __future__ import annotations

from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.device.device import Device
from edgeq.errors import EdgeqError
from edgeq.execution.frames import read_frame, write_frame
from edgeq.execution.process import start_module
from edgeq.runtime import Model, runtime_version
from edgeq.tflite.metadata import Overrides

__all__ = ["DevicePlace", "LocalPlace"]

_THREADS = 1  # some kernels split their sums by threads


class LocalPlace:
    """A runtime of this machine, in a process of its own.

    Attributes:
        name: to show.
        kernels: one of ``edgeq.runtime.KERNELS``.
        runtime: name and version.
    """

    def __init__(self, model: str | Path, runtime: str | None, kernels: str) -> None:
        """Start the process and load the model there.

        Raises:
            EdgeqError: the runtime is not there, or refuses the model.
        """
        self.name, self.kernels = "here", kernels
        self._process = start_module("edgeq.execution.worker")
        try:
            found = self._ask({"path": str(model), "runtime": runtime, "kernels": kernels})[0]["runtime"]
        except BaseException:
            self.close()
            raise
        self.runtime = f"{found} {runtime_version(found)}"

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run an input tensor; gives the output as the network has it.

        Raises:
            EdgeqError: the runtime failed, or crashed.
        """
        answer, data = self._ask({}, np.ascontiguousarray(tensor).tobytes())
        return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"])

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()

    def _ask(self, request: dict[str, Any], payload: bytes = b"") -> tuple[dict[str, Any], bytes]:
        assert self._process.stdin
        assert self._process.stdout
        try:
            write_frame(self._process.stdin, request, payload)
            answer, data = read_frame(self._process.stdout)
        except (BrokenPipeError, EOFError):
            raise EdgeqError(f"its process ended with exit code {self._process.wait()}") from None
        if "error" in answer:
            raise EdgeqError(answer["error"])
        return answer, data


class DevicePlace:
    """A device and the kernels that it uses. It may be asked by several threads, and answers one at a time.

    Attributes:
        name: the device's, as the user named it.
        kernels: one of ``edgeq.runtime.KERNELS``.
        runtime: name and version; known from its first run on.
        times_ms: of all runs, without the way there.
    """

    def __init__(self, device: Device, model: Model, runtime: str | None, kernels: str) -> None:
        """Have the model there.

        Args:
            device: that is set up; whoever connected it closes it.
            model: the same model here, whose understanding of its input goes along.
            runtime: a name in ``edgeq.runtime.RUNTIMES``; None takes the device's fastest.
            kernels: one of ``edgeq.runtime.KERNELS``.

        Raises:
            DeviceError: it does not arrive.
        """
        self.name, self.kernels, self.runtime = str(device.address), kernels, runtime or "?"
        self.times_ms: list[float] = []
        self._device, self._lock = device, Lock()
        spec = model.preprocessing
        self._model = device.open(model.path, runtime, _THREADS, kernels, Overrides((spec.mean, spec.std)))

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run an input tensor; gives the output as the network has it.

        Raises:
            DeviceError: the device failed, or is gone for good.
        """
        with self._lock:
            output, facts = self._device.run(self._model, tensor)
            self.runtime = f"{facts['runtime']} {facts['version']}"
            self.times_ms.append(facts["times_ms"]["invoke"])
        return output

    def close(self) -> None:
        """The device is somebody else's."""
