"""The device's end of a connection: keeps files, and runs models with the copy of edgeq that was installed there.

This source itself is sent at the start of each connection, together with that of :mod:`edgeq.execution.frames`, to a
plain ``python3``; so up to `_installed` it uses nothing but the standard library. Every request is complete in
itself: one that was cut off can simply be asked again. All that the desk names are digests and numbers, and what is
kept lies below one folder. When standard input ends, because the desk is done or gone, so does the process.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import platform
import queue
import re
import shutil
import sys
import threading
import zipfile
import zlib
from pathlib import Path
from typing import IO, Any

from edgeq.execution.frames import GREETING, read_frame, write_frame

__all__ = ["main"]

HOME = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgeq"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def main() -> None:
    """Answer requests until standard input ends."""
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native libraries print is no answer
    answers.write(GREETING)
    answers.flush()
    requests: queue.Queue[tuple[dict[str, Any], bytes]] = queue.Queue()
    threading.Thread(target=_read_requests, args=(sys.stdin.buffer, requests), daemon=True).start()
    while True:
        request, payload = requests.get()
        try:
            operation = _OPERATIONS[request["do"]]
            answer, result = operation(request, payload, answers)
        except OSError as error:
            full = error.errno in (errno.ENOSPC, errno.EDQUOT)
            said = "its disk is full" if full else f"{error.filename or 'a file'}: {error.strerror or error}"
            answer, result = {"error": said}, b""
        except Exception as error:  # the desk says it; a traceback here would go nowhere
            answer, result = {"error": str(error) or type(error).__name__, "kind": type(error).__name__}, b""
        write_frame(answers, answer, result)


def _read_requests(stream: IO[bytes], requests: queue.Queue[tuple[dict[str, Any], bytes]]) -> None:
    """Queue requests; when there can be no more, end everything, whatever is being done."""
    try:
        while True:
            requests.put(read_frame(stream))
    except EOFError:
        os._exit(0)


Answer = tuple[dict[str, Any], bytes]


def _probe(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """What decides which packages fit, and what is installed already."""
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
    """Where a file of that digest is kept."""
    if not _DIGEST.fullmatch(sha256):
        raise ValueError(f"{sha256!r} is no digest")
    return HOME / "files" / sha256


def _have(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """How many bytes of a file are here; None where it is whole."""
    path = _kept(request["sha256"])
    part = path.with_suffix(".part")
    return {"bytes": None if path.exists() else part.stat().st_size if part.exists() else 0}, b""


def _put(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """Add the next bytes to a file; after the last, its digest decides whether it stays."""
    path = _kept(request["sha256"])
    part = path.with_suffix(".part")
    part.parent.mkdir(parents=True, exist_ok=True)
    with part.open("r+b" if part.exists() else "wb") as file:
        file.truncate(request["offset"])
        file.seek(request["offset"])
        file.write(zlib.decompress(payload) if request["compressed"] else payload)
    if request["last"]:
        if hashlib.sha256(part.read_bytes()).hexdigest() != request["sha256"]:
            part.unlink()
            raise ValueError("a file arrived damaged; try again")
        part.replace(path)
    return {}, b""


def _install(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """Unpack archives that were sent before into a folder, which takes the place of an earlier one."""
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


def _remove(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """Delete all that was ever put here."""
    freed = sum(path.stat().st_size for path in HOME.rglob("*") if path.is_file())
    if HOME.exists():
        shutil.rmtree(HOME)
    return {"bytes": freed}, b""


def _installed() -> None:
    """Make the installed edgeq and its packages importable, here and in processes that this one starts."""
    paths = [str(HOME / "code"), str(HOME / "packages")]
    if paths[0] not in sys.path:
        for name in [name for name in sys.modules if name.partition(".")[0] == "edgeq"]:
            del sys.modules[name]  # those that came with the connection
        sys.path[:0] = paths
        os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def _info(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    _installed()
    from edgeq.benchmarking import read_machine

    return read_machine().to_json(), b""


def _bench(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """Measure files; tells how far it is in between."""
    _installed()
    from edgeq.benchmarking import bench, configurations

    def progress(stage: str, done: int, total: int) -> None:
        write_frame(answers, {"progress": [stage, done, total]})

    models = [str(_kept(sha256)) for sha256 in request["models"]]
    wanted = configurations(models, request["runtimes"], request["threads"])
    return bench(wanted, request["seconds"], progress).to_json(), b""


_models: dict[str, Any] = {}  # those that were opened


def _model(request: dict[str, Any]) -> Any:
    """The model that a request names, opened once."""
    _installed()
    key = json.dumps([request["model"], request["options"]])
    if key not in _models:
        from edgeq.runtime import Model
        from edgeq.tflite.metadata import Overrides

        given = dict(request["options"])
        overrides = given.pop("overrides")
        for name in ("normalization", "labels"):
            if overrides[name] is not None:
                overrides[name] = tuple(map(tuple, overrides[name]) if name == "normalization" else overrides[name])
        _models[key] = Model(_kept(request["model"]), overrides=Overrides(**overrides), **given)
    return _models[key]


def _run(request: dict[str, Any], payload: bytes, answers: IO[bytes]) -> Answer:
    """Run a tensor, or a photo that was sent before, and give the output as the network has it."""
    from time import perf_counter

    model = _model(request)
    import numpy as np

    from edgeq.runtime import runtime_version

    start = perf_counter()
    if "image" in request:
        image = model.preprocessing.decode(_kept(request["image"]))
        decoded = perf_counter()
        tensor = model.tensor(model.preprocessing.resample(image))
    else:
        decoded = start
        tensor = np.frombuffer(zlib.decompress(payload), model.input.quantization.dtype).reshape(model.input.shape)
    ready = perf_counter()
    output = model.invoke(tensor)
    done = perf_counter()
    times_ms = {"decode": decoded - start, "preprocess": ready - decoded, "invoke": done - ready}
    return {
        "times_ms": {step: round(1000 * seconds, 3) for step, seconds in times_ms.items()},
        "runtime": model.runtime,
        "version": runtime_version(model.runtime),
        "dtype": str(output.dtype),
        "shape": list(output.shape),
    }, output.tobytes()


_OPERATIONS = {
    "probe": _probe,
    "have": _have,
    "put": _put,
    "install": _install,
    "remove": _remove,
    "info": _info,
    "bench": _bench,
    "run": _run,
}
