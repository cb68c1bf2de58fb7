"""A device that does as it is told: keeps files, and runs and measures models."""

from __future__ import annotations

import re
import time
import zlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.benchmarking import Benchmark, Machine
from edgeq.device.address import Address
from edgeq.device.connection import Connection
from edgeq.errors import ConnectionLostError, DeviceError, InputError
from edgeq.files import sha256_of_file
from edgeq.progress import Progress, no_progress
from edgeq.tflite.metadata import Overrides

__all__ = ["Device", "RemoteModel"]

_CHUNK_BYTES = 1 << 18
_WORTH_COMPRESSING = 0.9  # of a file's first bytes; photos do not shrink
_KEPT = re.compile(r"\S*/files/([0-9a-f]{64})")  # where the device has a file
_WAITS_S = (1.0, 3.0, 10.0)  # before connecting again


@dataclass(frozen=True)
class RemoteModel:
    """A model on a device, and how it is to be run there.

    Attributes:
        sha256: of the file, by which the device has it.
        options: arguments of ``edgeq.runtime.Model``, as JSON data.
    """

    sha256: str
    options: dict[str, Any]


class Device:
    """A device, connected as ``with Device(address) as device``.

    Where a connection breaks, it is made anew a few times and the request asked again: every request is complete
    in itself, and of a file that was under way only the rest is sent.
    """

    def __init__(self, address: Address, progress: Progress = no_progress) -> None:
        """Connect.

        Args:
            address: of the device.
            progress: called while files travel and while it measures.

        Raises:
            DeviceError: it cannot be reached or used; :class:`edgeq.errors.ConnectionLostError` where trying again
                may help.
        """
        self.address = address
        self._progress = progress
        self._connection: Connection | None = Connection(address)
        self._sent: dict[str, str] = {}  # digests, and what the files are called here

    def __enter__(self) -> Device:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._connection is not None:
            self._connection.close()

    def ask(self, do: str, payload: bytes = b"", **request: Any) -> tuple[Any, bytes]:
        """Ask the agent for one of its operations, again if the connection breaks.

        Raises:
            DeviceError: the device says why it cannot, or is gone for good.
        """
        for wait in (*_WAITS_S, None):
            try:
                if self._connection is None:
                    self._connection = Connection(self.address)
                return self._connection.ask({"do": do, **request}, payload, self._progress)
            except ConnectionLostError:
                self._connection = None
                if wait is None:
                    raise
            except DeviceError as error:
                raise DeviceError(self._in_our_names(str(error))) from None
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def probe(self) -> dict[str, Any]:
        """Architecture, Python, free space and what is installed."""
        found: dict[str, Any] = self.ask("probe")[0]
        return found

    def machine(self) -> Machine:
        """What the device is, and how it is doing."""
        return Machine.from_json(self.ask("info")[0])

    def send(self, path: str | Path) -> str:
        """Have a file there; it travels only if it is not there already.

        Returns:
            The digest by which the device has it.

        Raises:
            InputError: it cannot be read.
            DeviceError: it does not arrive, for instance as the disk is full.
        """
        try:
            sha256 = sha256_of_file(path)
            if sha256 not in self._sent:
                self._send(Path(path).read_bytes(), sha256, Path(path).name)
                self._sent[sha256] = str(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        return sha256

    def _send(self, content: bytes, sha256: str, name: str) -> None:
        compressed = len(zlib.compress(content[:_CHUNK_BYTES], 1)) < _WORTH_COMPRESSING * len(content[:_CHUNK_BYTES])
        offset = self.ask("have", sha256=sha256)[0]["bytes"]
        while offset is not None:
            self._progress(f"Sending {name}"[:28], offset, max(1, len(content)))
            chunk = content[offset : offset + _CHUNK_BYTES]
            last = offset + len(chunk) >= len(content)
            payload = zlib.compress(chunk, 1) if compressed else chunk
            self.ask("put", payload, sha256=sha256, offset=offset, compressed=compressed, last=last)
            offset = None if last else offset + len(chunk)

    def _in_our_names(self, message: str) -> str:
        """A message of the device's with the names that files have here."""
        return _KEPT.sub(lambda found: self._sent.get(found[1], found[1]), message)

    def open(
        self, path: str | Path, runtime: str | None, threads: int, kernels: str, overrides: Overrides
    ) -> RemoteModel:
        """Have a model there, to be run as :class:`edgeq.runtime.Model` would; it is loaded when it is first run."""
        options = {"runtime": runtime, "threads": threads, "kernels": kernels, "overrides": asdict(overrides)}
        return RemoteModel(self.send(path), options)

    def run(self, model: RemoteModel, tensor: npt.NDArray[Any]) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """Run an input tensor.

        Returns:
            The output as the network has it, and a dictionary with ``runtime`` and ``times_ms``.

        Raises:
            DeviceError: the model cannot be loaded or run there.
        """
        payload = zlib.compress(np.ascontiguousarray(tensor).tobytes(), 1)
        return self._output(*self.ask("run", payload, model=model.sha256, options=model.options))

    def run_image(self, model: RemoteModel, image: str | Path) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        """As :meth:`run`, but the image itself travels, and the device decodes it."""
        return self._output(*self.ask("run", model=model.sha256, options=model.options, image=self.send(image)))

    def bench(
        self, models: Sequence[str | Path], runtimes: Sequence[str], threads: Sequence[int], seconds: float
    ) -> Benchmark:
        """Measure models there, see :func:`edgeq.benchmarking.bench`."""
        names = {self.send(model): str(model) for model in models}
        data = self.ask("bench", models=list(names), runtimes=runtimes, threads=threads, seconds=seconds)[0]
        for entry in (*data["measurements"], *data["failures"]):  # there they are called by their digests
            entry["model"] = names[Path(entry["model"]).name]
            if "reason" in entry:
                entry["reason"] = self._in_our_names(entry["reason"])
        return Benchmark.from_json(data)

    @staticmethod
    def _output(answer: dict[str, Any], data: bytes) -> tuple[npt.NDArray[Any], dict[str, Any]]:
        return np.frombuffer(data, answer["dtype"]).reshape(answer["shape"]), answer
