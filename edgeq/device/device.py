"""A connected device, to which files are sent and whose agent runs requests."""

from __future__ import annotations

import re
import threading
import time
import zlib
from pathlib import Path
from typing import Any

from edgeq.closing import Closing
from edgeq.device.address import Address
from edgeq.device.connection import Connection
from edgeq.errors import ConnectionLostError, DeviceError, InputError
from edgeq.execution.machine import Machine
from edgeq.files import sha256_of_file
from edgeq.progress import Progress, no_progress

__all__ = ["Device"]

_CHUNK_BYTES = 1 << 18
_WORTH_COMPRESSING = 0.9  # a file is compressed if its first chunk shrinks to less than this; photos do not
_KEPT = re.compile(r"\S*/files/([0-9a-f]{64})")  # path of a file on the device, in a message
_WAITS_S = (1.0, 3.0, 10.0, 30.0)  # waiting times before connecting again; a board restarts within them


class Device(Closing):
    """A connected device; used as ``with Device(address) as device``.

    If the connection breaks, the request is repeated over a new connection, up to four times within
    about a minute. A file transfer then
    continues where it stopped. Several threads may use a device; their requests are served one by one.

    Attributes:
        address: the device's address.
        progress: called while files are sent.
    """

    def __init__(self, host: str, progress: Progress = no_progress) -> None:
        """Connect to a device.

        Args:
            host: the device's address, see :meth:`edgeq.device.address.Address.parse`.
            progress: called while files are sent.

        Raises:
            InputError: the address is malformed.
            DeviceError: the device cannot be reached or used; a :class:`edgeq.errors.ConnectionLostError` if trying
                again may help.
        """
        self.address, self.progress = Address.parse(host), progress
        self._connection: Connection | None = Connection(self.address)
        self._given_up, self._lock = False, threading.Lock()
        self._sent: dict[str, str] = {}  # paths on the host of the files that were sent, by digest

    def close(self) -> None:
        """End the connection and the processes that it started on the device."""
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    @property
    def connected(self) -> bool:
        """Whether the connection was open after the last request."""
        return self._connection is not None

    def give_up(self) -> None:
        """Close the connection and do not reconnect. A thread that waits for an answer gets a `ConnectionLostError`."""
        self._given_up = True
        if self._connection is not None:
            self._connection.kill()

    def ask(self, do: str, payload: bytes = b"", compressed: bool = False, **request: Any) -> tuple[Any, bytes]:
        """Request an operation from the agent, and wait for the answer; try again if the connection breaks.

        Args:
            do: name of the operation.
            payload: raw bytes that belong to the request.
            compressed: whether to compress the payload.
            request: further arguments, as JSON data.

        Returns:
            The answer, and the raw bytes that belong to it.

        Raises:
            DeviceError: the operation failed, or the device is unreachable.
        """
        for wait in (*_WAITS_S, None):
            try:
                return self.ask_once(do, payload, compressed, **request)
            except ConnectionLostError:
                if wait is None or self._given_up:
                    raise
            time.sleep(wait)
        raise AssertionError("the last attempt returns or raises")

    def ask_once(self, do: str, payload: bytes = b"", compressed: bool = False, **request: Any) -> tuple[Any, bytes]:
        """Do the same as `ask`, without a second attempt. The next request connects again.

        Raises:
            ConnectionLostError: the device cannot be reached, or the connection broke.
            DeviceError: the operation failed.
        """
        try:
            with self._lock:
                if self._connection is None:
                    self._connection = Connection(self.address)
                return self._connection.ask({"do": do, **request}, payload, compressed)
        except ConnectionLostError:
            self._connection = None
            raise
        except DeviceError as error:
            raise DeviceError(self._with_host_names(str(error))) from None
        except BaseException:  # ctrl-C: the pending answer would be mistaken for the answer to the next request
            self.close()
            raise

    def probe(self) -> dict[str, Any]:
        """Return the device's architecture, its Python version, its free disk space and what is installed."""
        found: dict[str, Any] = self.ask("probe")[0]
        return found

    def machine(self) -> Machine:
        """Return the device's properties and state."""
        return Machine.from_json(self.ask("machine")[0])

    def send(self, path: str | Path) -> str:
        """Send a file, unless the device has it already.

        Returns:
            The file's digest, by which the agent stores it.

        Raises:
            InputError: the file cannot be read.
            DeviceError: the file cannot be sent, for example because the device's disk is full.
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
        """Send bytes, or the part of them that the device does not have yet.

        Args:
            content: the bytes to send.
            sha256: the content's digest, by which the agent stores it.
            name: the content's name in the progress.

        Raises:
            DeviceError: the content cannot be sent, for example because the device's disk is full.
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
        """Replace paths of files on the device in a message by their paths on the host."""
        return _KEPT.sub(lambda found: self._sent.get(found[1], found[1]), message)
