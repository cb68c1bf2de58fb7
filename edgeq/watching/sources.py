"""Where frames come from: standard input, the Raspberry Pi's camera, an HTTP stream, or a folder of photos.

None of them needs more than the standard library. What else Pillow cannot decode is in :mod:`edgeq.watching.video`.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from threading import Event, Thread
from typing import IO
from urllib.parse import unquote, urlsplit

from edgeq.errors import EdgeqError, InputError, one_line
from edgeq.images import Source as Image
from edgeq.images import is_image
from edgeq.watching.mjpeg import split_jpegs
from edgeq.watching.source import FrameSource, SourceLostError

__all__ = ["CAMERA", "open_source"]

CAMERA = "picamera"
"""The name of the Raspberry Pi's camera as a source."""

_CHUNK = 1 << 16
_HTTP_TIMEOUT_S = 10.0
_POLL_S = 0.2
_CAMERA_PROGRAM = "rpicam-vid"  # of every Raspberry Pi OS since bookworm


def open_source(name: str, size: tuple[int, int] = (480, 640), rate: float = 30.0) -> FrameSource:
    """Return the source of a name, without opening it yet.

    Args:
        name: ``-`` for JPEG images on standard input, ``picamera``, an ``http://`` or ``https://`` URL of a Motion
            JPEG stream, a folder; or what PyAV opens: a video file, ``/dev/video0``, or another URL.
        size: (height, width) of the frames to ask a camera for, in pixels.
        rate: frames per second to ask a camera for.

    Raises:
        InputError: there is no such source.
        EdgeqError: the source needs PyAV, which is not installed.
    """
    if name == "-":
        return _StandardInput()
    if name == CAMERA:
        return _Camera(size, rate)
    if urlsplit(name).scheme in ("http", "https"):
        return _HttpStream(name)
    if Path(name).is_dir():
        return _Folder(Path(name))
    from edgeq.watching.video import Video  # imported here: only these sources need PyAV

    return Video(name, size, rate)


class _StandardInput:
    name, comes_back, keeps_all = "standard input", False, False

    def frames(self) -> Iterator[Image]:
        # Not sys.stdin: a thread that waits for it would hold its lock at exit.
        return split_jpegs(lambda: os.read(0, _CHUNK))

    def close(self) -> None:
        """Do nothing: the thread that reads ends with the process."""


class _Camera:
    """The camera of a Raspberry Pi, through rpicam-vid: libcamera's cameras do not work through V4L2."""

    name, comes_back, keeps_all = CAMERA, True, False

    def __init__(self, size: tuple[int, int], rate: float) -> None:
        height, width = size
        self._command = [
            _CAMERA_PROGRAM, "--codec", "mjpeg", "--timeout", "0", "--nopreview", "--flush", "--width", str(width),
            "--height", str(height), "--framerate", f"{rate:g}", "--output", "-",
        ]  # fmt: skip
        self._process: subprocess.Popen[bytes] | None = None

    def frames(self) -> Iterator[Image]:
        if shutil.which(_CAMERA_PROGRAM) is None:
            raise EdgeqError(
                f"{CAMERA}: needs the program {_CAMERA_PROGRAM}, which is not installed: sudo apt install "
                "rpicam-apps-lite"
            )
        process = self._process = subprocess.Popen(
            self._command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, bufsize=0
        )
        assert process.stdout
        assert process.stderr
        said = _LastLine(process.stderr)
        try:
            yield from split_jpegs(_reader(process.stdout))
        finally:
            process.kill()
            process.stdout.close()
            code = process.wait()
        raise SourceLostError(f"{CAMERA}: {_CAMERA_PROGRAM} ended ({said.read() or f'exit code {code}'})")

    def close(self) -> None:
        if self._process is not None:
            self._process.kill()


class _LastLine:
    """Reads what a program prints, in the background, and keeps the last line: the pipe must not fill up."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._line = ""
        self._thread = Thread(target=self._run, args=(stream,), daemon=True)
        self._thread.start()

    def _run(self, stream: IO[bytes]) -> None:
        with stream:
            for line in stream:
                self._line = line.decode("utf-8", "replace").strip() or self._line

    def read(self) -> str:
        """Return the last line that is not empty."""
        self._thread.join(1)
        return one_line(self._line) if self._line else ""


class _HttpStream:
    comes_back, keeps_all = True, False

    def __init__(self, url: str) -> None:
        parts = urlsplit(url)
        self.name = parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()  # without user name and password
        self._login = f"{unquote(parts.username)}:{unquote(parts.password or '')}" if parts.username else None
        self._response: IO[bytes] | None = None

    def frames(self) -> Iterator[Image]:
        from urllib.request import Request, urlopen  # imported here: it takes 30 ms

        request = Request(self.name)
        if self._login is not None:
            request.add_header("Authorization", f"Basic {b64encode(self._login.encode()).decode()}")
        try:
            with urlopen(request, timeout=_HTTP_TIMEOUT_S) as response:
                self._response = response
                yield from split_jpegs(lambda: response.read1(_CHUNK))
        except (OSError, ValueError) as error:
            reason = getattr(error, "reason", None) or error
            raise SourceLostError(
                f"{self.name}: {one_line(str(getattr(reason, 'strerror', None) or reason))}"
            ) from None
        raise SourceLostError(f"{self.name}: the stream ended")

    def close(self) -> None:
        if self._response is not None:
            with suppress(OSError, ValueError):
                self._response.close()


class _Folder:
    """Photos that are dropped into a folder after the watch began, in the order of their times.

    A photo counts as complete once its size has stayed the same between two looks at the folder.
    """

    comes_back, keeps_all = False, True

    def __init__(self, folder: Path) -> None:
        self.name = str(folder)
        self._folder, self._closed = folder, Event()

    def frames(self) -> Iterator[Image]:
        seen: dict[Path, tuple[int, int]] = dict(self._listed())
        pending: dict[Path, tuple[int, int]] = {}
        while not self._closed.wait(_POLL_S):
            listed = dict(self._listed())
            fresh = {path: state for path, state in listed.items() if seen.get(path) != state}
            ready = [path for path, state in fresh.items() if pending.get(path) == state]
            for path in sorted(ready, key=lambda path: (fresh[path][1], path)):
                seen[path] = fresh[path]
                yield path
            pending = fresh
            seen = {path: state for path, state in seen.items() if path in listed}

    def _listed(self) -> Iterator[tuple[Path, tuple[int, int]]]:
        """Yield the photos in the folder, with size and time of change."""
        try:
            paths = list(self._folder.iterdir())
        except OSError as error:
            raise InputError(f"{self.name}: cannot read the folder ({error.strerror})") from None
        for path in paths:
            if is_image(path) and not path.name.startswith("."):
                with suppress(OSError):  # it was moved away
                    found = path.stat()
                    yield path, (found.st_size, found.st_mtime_ns)

    def close(self) -> None:
        self._closed.set()


def _reader(stream: IO[bytes]) -> Callable[[], bytes]:
    def read() -> bytes:
        try:
            return stream.read(_CHUNK) or b""
        except (OSError, ValueError):  # closed by another thread
            return b""

    return read
