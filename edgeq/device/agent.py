"""The agent: the program on a device that stores files and starts the worker processes that run models.

At the start of each connection, the source of this module and of the edgeq modules that it imports is sent to a plain
``python3`` on the device. So it uses only the standard library. The workers run the edgeq that is installed on the
device.

Each request contains everything needed to serve it, so it can be repeated after a broken connection. Files are stored
in one folder, and requests refer to them by their digests. When standard input closes, the agent and its workers end.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import os
import platform
import shutil
import sys
import time
import zipfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import IO, Any

from edgeq.device.home import HOME, kept_file
from edgeq.device.photos import PHOTO_OPERATIONS
from edgeq.device.user_service import SERVICE_OPERATIONS, remove_all
from edgeq.errors import DeviceError
from edgeq.execution.frames import GREETING
from edgeq.execution.process import RUNNER, WorkerProcess
from edgeq.execution.serving import Operation, Reply, serve

__all__ = ["main"]

_PART_KEPT_S = 86_400.0  # how long a part of a file stays, from which an interrupted transfer continues
_WATCHER = "edgeq.watching.worker"
_workers: dict[str, WorkerProcess] = {}  # by the program, and the model and its options as JSON text
_arriving: dict[str, IO[bytes]] = {}  # the locked files that this agent writes, by the digest of what arrives


def main() -> None:
    """Answer requests until standard input closes."""
    by_a_worker: dict[str, Operation] = {
        **dict.fromkeys(("open", "run", "run_image", "time"), _by_a_worker),
        **dict.fromkeys(("watch", "keep_frame"), partial(_by_a_worker, program=_WATCHER)),
    }
    keeping_files = {"probe": _probe, "have": _have, "put": _put, "install": _install, "remove": _remove}
    serve(
        {
            **keeping_files,
            **PHOTO_OPERATIONS,
            **SERVICE_OPERATIONS,
            **by_a_worker,
            "close": _close,
            "machine": _machine,
        },
        GREETING,
    )


def _probe(request: dict[str, Any], payload: bytes) -> Reply:
    """Report the properties that determine which packages fit, and what is installed."""
    existing = next(folder for folder in (HOME, *HOME.parents) if folder.exists())
    return {
        "architecture": platform.machine(),
        "bits": 64 if sys.maxsize > 2**32 else 32,
        "python": list(sys.version_info[:2]),
        "libc": list(platform.libc_ver()),
        "free_bytes": shutil.disk_usage(existing).free,
        "home": str(HOME),
        "user_home": str(Path.home()),
        "executable": sys.executable,
        "installed": _installed() or None,
    }, b""


def _have(request: dict[str, Any], payload: bytes) -> Reply:
    """Return how many bytes of a file have arrived; None if the file is complete."""
    sha256 = request["sha256"]
    if kept_file(sha256).exists():
        return {"bytes": None}, b""
    file = _arriving.get(sha256) or _begin(sha256)
    return {"bytes": file.seek(0, os.SEEK_END)}, b""


def _begin(sha256: str) -> IO[bytes]:
    """Open the part of a file that has arrived, and lock it: another host, or another address, may send the same."""
    path = kept_file(sha256)
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_old_parts(path.parent)
    for part in (path.with_suffix(".part"), path.with_suffix(f".{os.getpid()}.part")):
        file = part.open("a+b")
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            file.close()
            continue
        if part.exists():  # else the other agent has just finished
            _arriving[sha256] = file
            return file
        file.close()
    raise DeviceError("two transfers of one file got in each other's way; try again")


def _remove_old_parts(folder: Path) -> None:
    """Remove parts of files whose transfer was interrupted long ago; the clock may be wrong by decades."""
    for part in folder.glob("*.part"):
        with contextlib.suppress(OSError), part.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            if abs(time.time() - part.stat().st_mtime) > _PART_KEPT_S:
                part.unlink()


def _put(request: dict[str, Any], payload: bytes) -> Reply:
    """Append the next bytes to a file; after the last ones, check its digest."""
    sha256 = request["sha256"]
    path, file = kept_file(sha256), _arriving.get(sha256) or _begin(sha256)
    try:
        file.truncate(request["offset"])
        file.write(payload)  # at the end, which is the offset
        file.flush()
        if not request["last"]:
            return {}, b""
        if _digest(file) != sha256:
            Path(file.name).unlink()
            raise DeviceError("a file arrived damaged; try again")
        os.fsync(file.fileno())  # a board may lose its power at any time
        Path(file.name).replace(path)
    except BaseException:
        _forget(sha256)
        raise
    _forget(sha256)
    return {}, b""


def _digest(file: IO[bytes]) -> str:
    digest = hashlib.sha256()
    file.seek(0)
    while block := file.read(1 << 20):
        digest.update(block)
    return digest.hexdigest()


def _forget(sha256: str) -> None:
    """Close the part of a file, which unlocks it."""
    with contextlib.suppress(OSError):  # if the disk is full, closing fails, too
        _arriving.pop(sha256).close()


def _install(request: dict[str, Any], payload: bytes) -> Reply:
    """Replace a folder with the content of archives that were sent before.

    The record of what is installed is removed first and written last, so that an interrupted installation is repeated.
    """
    name = {"packages": "packages", "code": "code"}[request["folder"]]
    with _alone():
        if _installed().get(name) != request["record"] or not (HOME / name).is_dir():
            _write_record({key: value for key, value in _installed().items() if key != name})
            _unpack(name, request["archives"])
            _write_record({**_installed(), name: request["record"]})
        for sha256 in request["archives"]:
            kept_file(sha256).unlink(missing_ok=True)
    return {}, b""


def _unpack(name: str, archives: list[str]) -> None:
    new, old = HOME / f"{name}.new", HOME / f"{name}.old"
    for leftover in (new, old):
        shutil.rmtree(leftover, ignore_errors=True)
    try:
        for sha256 in archives:
            try:
                with zipfile.ZipFile(kept_file(sha256)) as archive:
                    archive.extractall(new)
            except FileNotFoundError:
                raise DeviceError("another host is setting it up at the same time; try again") from None
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    if (HOME / name).exists():
        (HOME / name).rename(old)
    new.rename(HOME / name)
    shutil.rmtree(old, ignore_errors=True)


@contextlib.contextmanager
def _alone() -> Iterator[None]:
    """Keep other agents on this device from installing at the same time."""
    HOME.mkdir(parents=True, exist_ok=True)
    with (HOME / "lock").open("w") as lock:
        with contextlib.suppress(OSError):  # the file system has no locks
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def _installed() -> dict[str, Any]:
    """Return the record of what is installed; empty if there is none, or if it was cut off by a full disk."""
    try:
        record = json.loads((HOME / "installed.json").read_text())
    except (OSError, ValueError):
        return {}
    return record if isinstance(record, dict) else {}


def _write_record(record: dict[str, Any]) -> None:
    part = HOME / "installed.json.part"
    part.write_text(json.dumps(record))
    part.replace(HOME / "installed.json")


def _remove(request: dict[str, Any], payload: bytes) -> Reply:
    """Delete everything that edgeq installed or sent, also services; return the number of bytes freed."""
    remove_all()
    for sha256 in list(_arriving):
        _forget(sha256)
    freed = sum(path.stat().st_size for path in HOME.rglob("*") if path.is_file())
    if HOME.exists():
        shutil.rmtree(HOME)
    return {"bytes": freed}, b""


def _worker(name: str, program: str = RUNNER) -> WorkerProcess:
    """Start a worker process that runs the installed edgeq."""
    return WorkerProcess(name, [str(HOME / "code"), str(HOME / "packages")], program=program)


def _key(request: dict[str, Any], program: str = RUNNER) -> str:
    return f"{program} {json.dumps(request['model'])}"


def _by_a_worker(request: dict[str, Any], payload: bytes, program: str = RUNNER) -> Reply:
    """Pass a request to the model's worker process, which is started if it is not running."""
    key, path = _key(request, program), str(kept_file(request["model"]["path"]))
    worker = _workers.get(key)
    if worker is None or not worker.alive:
        worker = _workers[key] = _worker(f"{path}: its process", program)
    request["model"]["path"] = path
    if "image" in request:
        request["image"] = str(kept_file(request["image"]))
    return worker.ask(payload=payload, **request)


def _close(request: dict[str, Any], payload: bytes) -> Reply:
    """End the model's worker process, if there is one."""
    worker = _workers.pop(_key(request), None)
    if worker:
        worker.close()
    return {}, b""


def _machine(request: dict[str, Any], payload: bytes) -> Reply:
    """Return the device's properties and state."""
    with _worker("the worker process") as worker:
        return worker.ask("machine")
