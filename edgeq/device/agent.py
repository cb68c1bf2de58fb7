"""The agent: the program on a device that stores files and starts the worker processes that run models.

At the start of each connection, the source of this module and of the edgeq modules that it imports is sent to a plain
``python3`` on the device. So it uses only the standard library. The workers run the edgeq that is installed on the
device.

Each request contains everything needed to serve it, so it can be repeated after a broken connection. Files are stored
in one folder, and requests refer to them by their digests. When standard input closes, the agent and its workers end.
"""

from __future__ import annotations

import hashlib
import json
import os
import platform
import re
import shutil
import sys
import zipfile
from pathlib import Path
from typing import Any

from edgeq.errors import DeviceError
from edgeq.execution.frames import GREETING
from edgeq.execution.process import WorkerProcess
from edgeq.execution.serving import Reply, serve

__all__ = ["main"]

HOME = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgeq"
_DIGEST = re.compile(r"[0-9a-f]{64}")
_workers: dict[str, WorkerProcess] = {}  # by the model and its options, as JSON text


def main() -> None:
    """Answer requests until standard input closes."""
    by_a_worker = dict.fromkeys(("open", "run", "run_image", "time"), _by_a_worker)
    keeping_files = {"probe": _probe, "have": _have, "put": _put, "install": _install, "remove": _remove}
    serve({**keeping_files, **by_a_worker, "close": _close, "machine": _machine}, GREETING)


def _probe(request: dict[str, Any], payload: bytes) -> Reply:
    """Report the properties that determine which packages fit, and what is installed."""
    existing = next(folder for folder in (HOME, *HOME.parents) if folder.exists())
    installed = HOME / "installed.json"
    return {
        "architecture": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "python": list(sys.version_info[:2]),
        "libc": list(platform.libc_ver()),
        "free_bytes": shutil.disk_usage(existing).free,
        "home": str(HOME),
        "installed": json.loads(installed.read_text()) if installed.is_file() else None,
    }, b""


def _kept(sha256: str) -> Path:
    """Return the path at which the file with that digest is stored."""
    if not _DIGEST.fullmatch(sha256):
        raise DeviceError(f"{sha256!r} is not a digest")
    return HOME / "files" / sha256


def _have(request: dict[str, Any], payload: bytes) -> Reply:
    """Return how many bytes of a file have arrived; None if the file is complete."""
    path = _kept(request["sha256"])
    part = path.with_suffix(".part")
    return {"bytes": None if path.exists() else part.stat().st_size if part.exists() else 0}, b""


def _put(request: dict[str, Any], payload: bytes) -> Reply:
    """Append the next bytes to a file; after the last ones, check its digest."""
    path = _kept(request["sha256"])
    part = path.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(request["offset"])
        file.seek(request["offset"])
        file.write(payload)
    if request["last"]:
        if hashlib.sha256(part.read_bytes()).hexdigest() != request["sha256"]:
            part.unlink()
            raise DeviceError("a file arrived damaged; try again")
        part.replace(path)
    return {}, b""


def _install(request: dict[str, Any], payload: bytes) -> Reply:
    """Replace a folder with the content of archives that were sent before."""
    name = {"packages": "packages", "code": "code"}[request["folder"]]
    new, old = HOME / f"{name}.new", HOME / f"{name}.old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        for sha256 in request["archives"]:
            with zipfile.ZipFile(_kept(sha256)) as archive:
                archive.extractall(new)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if (HOME / name).exists():
        (HOME / name).rename(old)
    new.rename(HOME / name)
    shutil.rmtree(old, ignore_errors=True)
    for sha256 in request["archives"]:
        _kept(sha256).unlink()
    record = HOME / "installed.json"
    installed = json.loads(record.read_text()) if record.is_file() else {}
    installed[name] = request["record"]
    record.write_text(json.dumps(installed))
    return {}, b""


def _remove(request: dict[str, Any], payload: bytes) -> Reply:
    """Delete everything that edgeq installed or sent; return the number of bytes freed."""
    freed = sum(path.stat().st_size for path in HOME.rglob("*") if path.is_file())
    if HOME.exists():
        shutil.rmtree(HOME)
    return {"bytes": freed}, b""


def _worker(name: str) -> WorkerProcess:
    """Start a worker process that runs the installed edgeq."""
    return WorkerProcess(name, [str(HOME / "code"), str(HOME / "packages")])


def _by_a_worker(request: dict[str, Any], payload: bytes) -> Reply:
    """Pass a request to the model's worker process, which is started if it is not running."""
    key, path = json.dumps(request["model"]), str(_kept(request["model"]["path"]))
    worker = _workers.get(key)
    if worker is None or not worker.alive:
        worker = _workers[key] = _worker(f"{path}: its process")
    request["model"]["path"] = path
    if "image" in request:
        request["image"] = str(_kept(request["image"]))
    return worker.ask(payload=payload, **request)


def _close(request: dict[str, Any], payload: bytes) -> Reply:
    """End the model's worker process, if there is one."""
    worker = _workers.pop(json.dumps(request["model"]), None)
    if worker:
        worker.close()
    return {}, b""


def _machine(request: dict[str, Any], payload: bytes) -> Reply:
    """Return the device's properties and state."""
    with _worker("the worker process") as worker:
        return worker.ask("machine")
