"""A connected device: files are sent to it, and its agent is asked to do something."""

from __future__ import annotations

import re
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from edgeq.device.address import Address
from edgeq.device.connection import Connection
from edgeq.errors import ConnectionLostError, DeviceError, InputError
from edgeq.execution.machine import Machine
from edgeq.execution.process import Closing
from edgeq.files import sha256_of_file
from edgeq.progress import Progress, no_progress

__all__ = ["Device"]

_CHUNK_BYTES = 1 << 18
_WORTH_COMPRESSING = 0.9  # of a file's first bytes; photos do not shrink
_KEPT = re.compile(r"\S*/files/([0-9a-f]{64})")  # where the device has a file
_WAITS_S = (1.0, 3.0, 10.0)  # before connecting again


class Device(Closing):
    """A device, connected as ``with Device(address) as device``.

    If the connection breaks, the request is repeated on a new one, a few times: every request is complete in itself,
    and only the missing rest of a file is sent. Several threads may ask; they are answered one after the other.

    Attributes:
        address: of the device.
        progress: called while files travel.
    """

    def __init__(self, host: str, progress: Progress = no_progress) -> None:
        """Connect.

        Args:
            host: as users name it, see :meth:`edgeq.device.address.Address.parse`.
            progress: called while files travel.

        Raises:
            InputError: the host is malformed.
            DeviceError: it cannot be reached or used; :class:`edgeq.errors.ConnectionLostError` where trying again
                may help.
        """
        self.address, self.progress = Address.parse(host), progress
        self._connection: Connection | None = Connection(self.address)
        self._given_up, self._lock = False, threading.Lock()
        self._sent: dict[str, str] = {}  # names on the host, by digest

    def close(self) -> None:
        """End the connection and the processes that it started on the device."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def connected(self) -> bool:
        """Whether there was a connection after the last request."""
        return self._connection is not None

    def give_up(self) -> None:
        """Break the connection for good; a thread that waits for an answer gets a `ConnectionLostError`."""
        self._given_up = True
        if self._connection is not None:
            self._connection.kill()

    def ask(self, do: str, payload: bytes = b"", compressed: bool = False, **request: Any) -> tuple[Any, bytes]:
        """Ask the agent to do one of its operations; repeated if the connection breaks.

        Args:
            do: name of the operation.
            payload: raw bytes that belong to the request.
            compressed: whether they are worth compressing on the way.
            request: JSON data.

        Raises:
            DeviceError: the operation failed, or the device is unreachable.
        """
        for wait in (*_WAITS_S, None):
            try:
                with self._lock:
                    if self._connection is None:
                        self._connection = Connection(self.address)
                    return self._connection.ask({"do": do, **request}, payload, compressed)
            except ConnectionLostError:
                self._connection = None
                if wait is None or self._given_up:
                    raise
            except DeviceError as error:
                raise DeviceError(self._with_host_names(str(error))) from None
            except BaseException:  # ctrl-C: the pending answer would be taken for the next request's
                self.close()
                raise
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def probe(self) -> dict[str, Any]:
        """Architecture, Python, free space and what is installed."""
        found: dict[str, Any] = self.ask("probe")[0]
        return found

    def machine(self) -> Machine:
        """The device's hardware, system and runtimes, and its state."""
        return Machine.from_json(self.ask("machine")[0])

    def send(self, path: str | Path) -> str:
        """Send a file, unless the device has it.

        Returns:
            The digest by which the device has it.

        Raises:
            InputError: it cannot be read.
            DeviceError: it does not arrive, for instance as the disk is full.
        """
        try:
            sha256 = sha256_of_file(path)
            if sha256 not in self._sent:
                self.send_content(Path(path).read_bytes(), sha256, Path(path).name)
                self._sent[sha256] = str(path)
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror})") from None
        return sha256

    def send_content(self, content: bytes, sha256: str, name: str) -> None:
        """Send bytes, or what the device lacks of them.

        Args:
            content: what to send.
            sha256: its digest, by which the device has it.
            name: what progress calls it.

        Raises:
            DeviceError: it does not arrive, for instance as the disk is full.
        """
        compressed = len(zlib.compress(content[:_CHUNK_BYTES], 1)) < _WORTH_COMPRESSING * len(content[:_CHUNK_BYTES])
        offset = self.ask("have", sha256=sha256)[0]["bytes"]
        while offset is not None:
            self.progress(f"Sending {name}"[:28], offset, max(1, len(content)))
            chunk = content[offset : offset + _CHUNK_BYTES]
            last = offset + len(chunk) >= len(content)
            self.ask("put", chunk, compressed, sha256=sha256, offset=offset, last=last)
            offset = None if last else offset + len(chunk)

    def _with_host_names(self, message: str) -> str:
        """Replace the device's names of files in a message by those on the host."""
        return _KEPT.sub(lambda found: self._sent.get(found[1], found[1]), message)
