"""The execution backend that runs a model on a device."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import numpy.typing as npt

from edgeq.device.device import Device
from edgeq.errors import DeviceError
from edgeq.execution.backend import Backend
from edgeq.preprocessing import Preprocessing
from edgeq.runtime.admission import is_trusting

__all__ = ["DeviceBackend"]


class DeviceBackend(Backend):
    """A backend for a model in a worker process on a device. Its `name` is the device's address."""

    def __init__(
        self, device: Device, path: str | Path, runtime: str | None = None, threads: int = 1, kernels: str = "default"
    ) -> None:
        """Send the model, unless the device has it already. The first run loads it.

        Args:
            device: a connected device that is set up; the caller closes it.
            path: the .tflite file on the host.
            runtime: a name in ``edgeq.runtime.RUNTIMES``; None for the device's fastest runtime.
            threads: number of threads that the interpreter may use.
            kernels: a name in ``edgeq.runtime.KERNELS``.

        Raises:
            InputError: the file cannot be read.
            DeviceError: the file cannot be sent.
        """
        super().__init__(device.send(path), runtime, threads, kernels, trust=is_trusting())
        self.name, self._device = str(device.address), device

    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[dict[str, Any], bytes]:
        """See :meth:`edgeq.execution.backend.Backend.ask`."""
        return self._device.ask(do, payload, compressed=True, model=self._model, **request)

    def run_image(self, image: str | Path, preprocessing: Preprocessing) -> tuple[npt.NDArray[Any], dict[str, float]]:
        """Run the model on an image file, which the device decodes and preprocesses.

        Args:
            image: a file on the host; it is sent unless the device has it already.
            preprocessing: the model's preprocessing.

        Returns:
            The output tensor, and the times of ``decode``, ``preprocess`` and ``invoke`` in milliseconds.

        Raises:
            DeviceError: the model cannot be run on the image, or the device is unreachable.
        """
        spec = (preprocessing.mean, preprocessing.std, preprocessing.channels, preprocessing.crop)
        (output,), times_ms = self.outputs("run_image", image=self._device.send(image), preprocessing=spec)
        return output, times_ms

    def close(self) -> None:
        """End the model's process on the device; the connection stays open."""
        if self._device.connected:
            with contextlib.suppress(DeviceError):  # if the connection is lost, the process ends by itself
                self.ask("close")
