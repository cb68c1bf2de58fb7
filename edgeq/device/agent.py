"""The device's end of a connection: keeps files, and starts the worker processes that run models.

At the start of each connection the source of this module and of those that it imports from edgeq is sent to a plain
``python3``, so it uses only the standard library. The workers run the copy of edgeq that was installed on the device.
Every request is complete in itself and can be repeated after a broken connection. Requests name files by their digests,
and all files are kept below one folder. When standard input ends, so do the process and its workers.
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
_workers: dict[str, WorkerProcess] = {}  # by the model and its options


def main() -> None:
    """Answer requests until standard input ends."""
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
    """The path of the file with that digest."""
    if not _DIGEST.fullmatch(sha256):
        raise DeviceError(f"{sha256!r} is not a digest")
    return HOME / "files" / sha256


def _have(request: dict[str, Any], payload: bytes) -> Reply:
    """Return the number of bytes of a file that have arrived; None if it is complete."""
    path = _kept(request["sha256"])
    part = path.with_suffix(".part")
    return {"bytes": None if path.exists() else part.stat().st_size if part.exists() else 0}, b""


def _put(request: dict[str, Any], payload: bytes) -> Reply:
    """Add the next bytes to a file; after the last ones its digest is checked."""
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
    """Unpack archives that were sent into a folder, which replaces the old one."""
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
    """Delete everything that edgeq installed or sent."""
    freed = sum(path.stat().st_size for path in HOME.rglob("*") if path.is_file())
    if HOME.exists():
        shutil.rmtree(HOME)
    return {"bytes": freed}, b""


def _worker(name: str) -> WorkerProcess:
    """Start a process that runs the installed edgeq."""
    return WorkerProcess(name, [str(HOME / "code"), str(HOME / "packages")])


def _by_a_worker(request: dict[str, Any], payload: bytes) -> Reply:
    """Pass the request to the model's worker process, which is started if it is not alive."""
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
    """The device's hardware, system and runtimes, and its state."""
    with _worker("the worker process") as worker:
        return worker.ask("machine")
