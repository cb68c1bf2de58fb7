"""Connect to a device with the OpenSSH client.

ssh uses the user's configuration: ``~/.ssh/config``, keys, agent, jump hosts and known hosts. It never prompts
(BatchMode), so an unknown or changed host key is an error. The environment variable ``EDGEQ_SSH`` sets another client
or options, such as ``ssh -F other_config``.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import subprocess
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from edgeq.device.address import Address
from edgeq.errors import ConnectionLostError, DeviceError, one_line
from edgeq.execution import frames

__all__ = ["Connection"]

_OPTIONS = ("-T", "-o", "BatchMode=yes", "-o", "ConnectTimeout=15", "-o", "ServerAliveInterval=15")
_REMOTE = 'exec python3 -c "import sys; exec(sys.stdin.buffer.read(int(sys.stdin.buffer.readline())))"'
"""The command to run on the device. It reads the agent's program, and then requests, from standard input."""

_SOURCES = (
    *("errors", "closing", "photo_folders", "python_process"),
    *("execution.frames", "execution.serving", "execution.process"),
    *("device.home", "device.photos", "device.user_service", "device.agent"),
)
"""The modules of the agent's program, in the order of their imports, the agent last."""

_NO_PYTHON = (126, 127)  # exit codes of a shell that cannot run python3
_TOO_OLD = 3  # exit code of the agent's program if Python is too old
_SSH_FAILED = 255  # exit code of ssh for its own errors
_PATIENCE_S = 5  # how long to wait for ssh to end
_MOST_LOGIN_BYTES = 1 << 20  # bytes that a login may print before the agent's greeting
_MOST_CHARACTERS = 1000  # of an error message from a device


class Connection:
    """A Python process on a device that runs :mod:`edgeq.device.agent`."""

    def __init__(self, address: Address) -> None:
        """Connect, and start the agent.

        Raises:
            ConnectionLostError: the device cannot be reached.
            DeviceError: the login failed, the host key is unknown or has changed, or Python is missing or too old.
        """
        self.address = address
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 (a pipe could fill up while nothing reads it)
        command = [*shlex.split(os.environ.get("EDGEQ_SSH", "ssh")), *_OPTIONS, *address.arguments, _REMOTE]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors
            )
        except OSError as error:
            raise DeviceError(f"{address}: {command[0]} cannot be started ({error.strerror})") from None
        assert self._process.stdin
        assert self._process.stdout
        self._out, self._in = self._process.stdin, self._process.stdout
        program = _program()
        try:
            self._out.write(b"%d\n%s" % (len(program), program))
            self._out.flush()
            self._skip_greeting()
        except (OSError, EOFError):
            self._explain()

    def ask(self, request: dict[str, Any], payload: bytes = b"", compressed: bool = False) -> tuple[Any, bytes]:
        """Send a request to the agent and wait for its answer.

        Args:
            request: the request, as JSON data.
            payload: raw bytes that belong to the request.
            compressed: whether to compress the payload.

        Returns:
            The answer, and the raw bytes that belong to it.

        Raises:
            ConnectionLostError: the connection broke.
            DeviceError: the operation failed.
        """
        try:
            frames.write_frame(self._out, request, payload, compressed)
            answer, result = frames.read_frame(self._in)
        except (OSError, EOFError):
            self._explain()
        except ValueError as error:
            self.kill()
            raise DeviceError(f"{self.address}: answers what edgeq does not understand: {one_line(error)}") from None
        if "error" in answer:
            raise DeviceError(f"{self.address}: {one_line(answer['error'], _MOST_CHARACTERS)}")
        return answer, result

    def kill(self) -> None:
        """End ssh immediately, even while another thread waits for an answer."""
        self._process.kill()

    def close(self) -> None:
        """End the agent, and then ssh."""
        for stream in (self._out, self._in):
            with contextlib.suppress(OSError):
                stream.close()
        try:
            self._process.wait(timeout=_PATIENCE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _skip_greeting(self) -> None:
        """Discard what the login printed, up to and including the agent's greeting."""
        seen = b"\n"
        while not seen.endswith(frames.GREETING):
            byte = self._in.read(1)
            if not byte or len(seen) > _MOST_LOGIN_BYTES:
                raise EOFError
            seen += byte

    def _explain(self) -> NoReturn:
        """Raise an error that explains why the connection ended."""
        self.close()
        self._errors.seek(max(0, self._errors.seek(0, os.SEEK_END) - _MOST_LOGIN_BYTES))
        raise _explained(str(self.address), self._process.returncode, self._errors.read().decode(errors="replace"))


def _explained(device: str, code: int, said: str) -> DeviceError:
    """Return the error that explains why a connection ended.

    Args:
        device: the device as the user named it.
        code: ssh's exit code: 255 for its own errors, else that of the remote command.
        said: everything that ssh wrote to standard error.
    """
    lines = [line for line in said.splitlines() if line.strip()] or [f"ssh ended with exit code {code}"]
    last = one_line(lines[-1])
    refusals = {
        "REMOTE HOST IDENTIFICATION HAS CHANGED": "its host key has changed, which may be an attack; if it was "
        "reinstalled, remove the old key (ssh-keygen -R), ssh to it once and check the new key",
        "Host key verification failed": "its host key is not known yet; ssh to it once and check the key",
        "Permission denied": f"refuses the login ({last}); copy your key to it with ssh-copy-id",
    }
    for sign, meaning in refusals.items():
        if code == _SSH_FAILED and sign in said:
            return DeviceError(f"{device}: {meaning}")
    if code in _NO_PYTHON:
        return DeviceError(f"{device}: has no python3 (Debian, Raspberry Pi OS: sudo apt install python3)")
    if code == _TOO_OLD:
        return DeviceError(f"{device}: {last}")
    what = "cannot be reached, or the connection was lost" if code == _SSH_FAILED else "the program there ended"
    return ConnectionLostError(f"{device}: {what} ({last})")


def _program() -> bytes:
    """Return the agent as one program with all its modules, so that a Python without edgeq can run it."""
    package = Path(__file__).parents[1]
    lines = [
        "import sys, types",
        "if sys.version_info < (3, 10):",
        "    print('has Python %d.%d, but edgeq needs 3.10 or newer' % sys.version_info[:2], file=sys.stderr)",
        f"    sys.exit({_TOO_OLD})",
        "for name in ('edgeq', 'edgeq.device', 'edgeq.execution'):",
        "    sys.modules[name] = types.ModuleType(name)",
    ]
    for name in _SOURCES:
        full, source = f"edgeq.{name}", (package / f"{name.replace('.', '/')}.py").read_text("utf-8")
        lines.append(f"sys.modules[{full!r}] = module = types.ModuleType({full!r})")
        lines.append(f"exec(compile({source!r}, {full!r}, 'exec'), module.__dict__)")
    return "\n".join([*lines, "module.main()"]).encode()
