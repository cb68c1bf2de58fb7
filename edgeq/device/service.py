"""Run ``edgeq watch`` on a device as a service: the unit for systemd, and the requests to the device's agent."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import Any

from edgeq.device.device import Device
from edgeq.errors import InputError

__all__ = ["Installed", "install_service", "unit_name", "unit_text"]

_NAME = re.compile(r"[A-Za-z0-9_-]{1,50}")

_UNIT = Template("""\
# Written by edgeq device service install.
[Unit]
Description=edgeq watch $source
StartLimitIntervalSec=0

[Service]
Type=notify
ExecStart=$command
WorkingDirectory=$directory
Environment="PYTHONPATH=$path" PYTHONUNBUFFERED=1
Restart=on-failure
RestartSec=10
TimeoutStartSec=90
SuccessExitStatus=143
${watchdog}MemoryMax=$memory
NoNewPrivileges=yes

[Install]
WantedBy=default.target
""")


@dataclass(frozen=True)
class Installed:
    """A service that was installed and started.

    Attributes:
        unit: the unit's file on the device.
        lingers: whether it also runs while its user is not logged in, and from boot on.
        user: the user's name on the device.
    """

    unit: str
    lingers: bool
    user: str


def unit_name(name: str) -> str:
    """Return the name of the unit for a service.

    Raises:
        InputError: the name has other characters than letters, digits, ``_`` and ``-``.
    """
    if not _NAME.fullmatch(name):
        raise InputError(f"service {name!r}: a name has up to 50 letters, digits, _ and -")
    return f"edgeq-{name}"


def unit_text(
    command: Sequence[str], path: Sequence[str], directory: str, memory_bytes: int, watchdog_s: int | None
) -> str:
    """Return the unit of a service that runs ``edgeq watch``, for the systemd of a user.

    Args:
        command: the absolute path of the program, and its arguments; the one after ``watch`` is the source.
        path: folders that Python imports from.
        directory: the service's current folder.
        memory_bytes: most memory that it may use.
        watchdog_s: restart it after this time without a result, in seconds; None for a source that may be quiet.

    Raises:
        InputError: an argument contains a line break or another control character.
    """
    return _UNIT.substitute(
        source=_plain(command[command.index("watch") + 1]),
        command=" ".join(map(_quoted, command)),
        directory=_plain(directory),
        path=_plain(":".join(path)),
        memory=memory_bytes,
        watchdog=f"WatchdogSec={watchdog_s}\n" if watchdog_s else "",
    )


def install_service(
    device: Device,
    name: str,
    arguments: Sequence[str | Path],
    *,
    memory_bytes: int = 400_000_000,
    watchdog_s: int | None = None,
) -> Installed:
    """Install ``edgeq watch`` as a service on a device that is set up, and start it.

    Args:
        device: the device.
        name: the service's name; a service of this name is replaced.
        arguments: the arguments of ``edgeq watch``, the source first. A `Path` is a file on the host, which is sent.
            Other paths are those of the device.
        memory_bytes: see `unit_text`.
        watchdog_s: see `unit_text`.

    Raises:
        InputError: the name or an argument is invalid, or a file cannot be read.
        DeviceError: the device has no systemd, or the service does not start.
    """
    unit, found = unit_name(name), device.probe()
    files = {argument: _file_name(argument) for argument in arguments if isinstance(argument, Path)}
    folder = f"{found['home']}/services/{unit}"
    there = [f"{folder}/{files[word]}" if isinstance(word, Path) else word for word in arguments]
    text = unit_text(
        [found["executable"], "-m", "edgeq", "watch", *there],
        [f"{found['home']}/code", f"{found['home']}/packages"],
        found["user_home"],
        memory_bytes,
        watchdog_s,
    )
    sent = {file: device.send(path) for path, file in files.items()}
    answer: dict[str, Any] = device.ask("install_service", name=unit, unit=text, files=sent)[0]
    return Installed(answer["unit"], answer["lingers"], answer["user"])


def _file_name(path: Path) -> str:
    """Return a file's name without characters that have a meaning for systemd."""
    return re.sub(r"[^\w.+-]", "_", path.name, flags=re.ASCII)[-80:].lstrip(".-") or "file"


def _quoted(word: str) -> str:
    r"""Quote an argument for ExecStart: systemd knows ``\`` and quotes, ``%`` specifiers and ``$`` variables."""
    escaped = _plain(word).replace("\\", "\\\\").replace('"', '\\"').replace("$", "$$")
    return f'"{escaped}"'


def _plain(text: str) -> str:
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise InputError(f"{text!r}: contains a control character, which a unit of systemd cannot contain")
    return text.replace("%", "%%")
