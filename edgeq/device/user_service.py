"""Services of the device's user under systemd: install, look at, stop and remove them. The agent runs these operations.

Uses only the standard library, because the agent runs before anything is installed. Everything is done by systemctl,
journalctl and loginctl, without root.
"""

from __future__ import annotations

import os
import pwd
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

from edgeq.device.home import HOME, kept_file
from edgeq.errors import DeviceError, one_line

__all__ = ["SERVICE_OPERATIONS", "remove_all"]

_UNITS = Path(os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config") / "systemd" / "user"
_NAME = re.compile(r"edgeq-[A-Za-z0-9_-]{1,50}")
_FILE = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9_.+-]{0,100}")
_PATIENCE_S = 100  # systemctl start waits until the model is loaded


def _install(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Write a unit and the files that it needs, start it now and at each boot.

    The files were sent before. They are copied to a folder of the service, where they have their names.
    """
    name = _checked(request["name"])
    folder = HOME / "services" / name
    folder.mkdir(parents=True, exist_ok=True)
    for file, sha256 in request["files"].items():
        if not _FILE.fullmatch(file):
            raise DeviceError(f"{file!r} is not the name of a file")
        part = folder / f"{file}.part"
        shutil.copyfile(kept_file(sha256), part)
        part.replace(folder / file)
    _UNITS.mkdir(parents=True, exist_ok=True)
    unit = _UNITS / f"{name}.service"
    part = unit.with_suffix(".part")
    part.write_text(request["unit"], "utf-8")
    part.replace(unit)
    _systemctl("daemon-reload")
    _systemctl("enable", name)
    try:
        _systemctl("restart", name)
    except DeviceError as error:
        raise DeviceError(f"{error}; edgeq device service logs shows what it printed") from None
    return {"unit": str(unit), "lingers": _lingers(), "user": _user()}, b""


def _status(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the state of a service as systemd reports it: ActiveState, SubState, NRestarts and so on."""
    name = _installed(request["name"])
    wanted = "ActiveState,SubState,Result,NRestarts,MainPID,MemoryCurrent,ActiveEnterTimestamp"
    lines = _systemctl("show", name, f"--property={wanted}").splitlines()
    return {"state": dict(line.split("=", 1) for line in lines if "=" in line)}, b""


def _logs(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the last lines that a service printed."""
    unit = f"--user-unit={_installed(request['name'])}.service"
    count = f"--lines={int(request['lines'])}"
    return {"text": _run("journalctl", unit, count, "--no-pager", "--output=short-iso", "--quiet")}, b""


def _stop(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Stop a service until the next boot."""
    _systemctl("stop", _installed(request["name"]))
    return {}, b""


def _remove(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    """Stop a service, and remove its unit and its folder."""
    name = _installed(request["name"])
    _systemctl("disable", "--now", name)
    (_UNITS / f"{name}.service").unlink(missing_ok=True)
    shutil.rmtree(HOME / "services" / name, ignore_errors=True)
    _systemctl("daemon-reload")
    return {}, b""


SERVICE_OPERATIONS = {
    "install_service": _install,
    "service_status": _status,
    "service_logs": _logs,
    "stop_service": _stop,
    "remove_service": _remove,
}
"""The operations of the agent."""


def remove_all() -> None:
    """Remove all services; what they run is about to be deleted."""
    for folder in (HOME / "services").glob("edgeq-*"):
        if (_UNITS / f"{folder.name}.service").exists():
            _remove({"name": folder.name}, b"")


def _checked(name: str) -> str:
    if not _NAME.fullmatch(name):
        raise DeviceError(f"{name!r} is not the name of a service")
    return name


def _installed(name: str) -> str:
    if not (_UNITS / f"{_checked(name)}.service").exists():
        raise DeviceError(f"has no service {name.removeprefix('edgeq-')}; edgeq device service install creates one")
    return name


def _user() -> str:
    return pwd.getpwuid(os.getuid()).pw_name


def _lingers() -> bool:
    """Let the user's services run while nobody is logged in; return whether they may."""
    user = _user()
    if _try("loginctl", "show-user", user, "--property=Linger", "--value").strip() == "yes":
        return True
    _try("loginctl", "enable-linger")
    return _try("loginctl", "show-user", user, "--property=Linger", "--value").strip() == "yes"


def _systemctl(*arguments: str) -> str:
    return _run("systemctl", "--user", *arguments)


def _try(*command: str) -> str:
    """Run a command that may fail; return what it printed."""
    try:
        return _run(*command)
    except DeviceError:
        return ""


def _run(*command: str) -> str:
    """Run a command and return what it printed.

    Raises:
        DeviceError: it is not installed, or it failed.
    """
    runtime = f"/run/user/{os.getuid()}"  # unset if the login did not go through PAM
    environment = {"XDG_RUNTIME_DIR": runtime, **os.environ} if Path(runtime).is_dir() else dict(os.environ)
    try:
        done = subprocess.run(
            command,
            env=environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PATIENCE_S,
            check=False,
        )
    except FileNotFoundError:
        raise DeviceError(f"has no {command[0]}; services need systemd") from None
    except subprocess.TimeoutExpired:
        raise DeviceError(f"{command[0]} did not answer within {_PATIENCE_S} s") from None
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"exit code {done.returncode}"]
        raise DeviceError(f"{' '.join(command[:3])} failed ({one_line(said[0])})")
    return done.stdout
