"""What the tests of the page share: results as watching yields them, a keeper, and requests."""

from __future__ import annotations

import http.client
import io
import json
import re
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from conftest import colour_picture

import edgeq
from edgeq.classification import Prediction
from edgeq.errors import EdgeqError

LABELS = ("blue", "green", "red")


def jpeg(colour: str, side: int = 48) -> bytes:
    out = io.BytesIO()
    colour_picture(colour, 0, side).save(out, "JPEG", quality=95)
    return out.getvalue()


RED = jpeg("red")


def observed(frame: int, label: str | None = "red", image: Any = RED, **changes: Any) -> edgeq.Observed:
    shown = label or "red"
    values: dict[str, Any] = {
        "time": 1_700_000_000.0 + frame,
        "frame": frame,
        "file": None,
        "label": label,
        "probability": 0.8 + frame % 10 / 100,
        "changed": True,
        "predictions": (Prediction(2, shown, 0.8 + frame % 10 / 100), Prediction(0, "blue", 0.1)),
        "times_ms": {"decode": 3.5, "preprocess": 1.2, "invoke": 20.0 + frame, "latency": 40.0 + frame},
        "frames_per_second": 20.0 + frame,
        "dropped": 3 * frame,
        "damaged": 1,
        "interruptions": 2,
        "temperature_c": 51.4,
        "image": image,
    }
    return edgeq.Observed(**values | changes)


class FolderKeeper:
    """Writes photos into a folder, as long as that is there."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.kept: list[tuple[int, str | None]] = []

    def keep(self, observed: edgeq.Observed, label: str | None = None) -> Path:
        file = self.folder / f"{observed.frame}.jpg"
        try:
            file.write_bytes(observed.image)  # type: ignore[arg-type]
        except OSError as error:
            raise EdgeqError(f"{file}: cannot write: {error.strerror}") from None
        self.kept.append((observed.frame, label))
        return file


class Client:
    """Sends requests to a page."""

    def __init__(self, page: edgeq.WatchPage) -> None:
        parts = urlsplit(page.url)
        assert parts.port
        self.port, self.token = parts.port, parts.query.removeprefix("token=") or None
        self.host = f"127.0.0.1:{self.port}"

    def ask(
        self, path: str, method: str = "GET", body: Any = None, **headers: str | None
    ) -> tuple[int, http.client.HTTPMessage, bytes]:
        """Return the status, headers and body. Header names have underscores; None leaves one out."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=20)
        all_headers = {"Host": self.host} | {name.replace("_", "-"): value for name, value in headers.items()}
        if method == "POST":
            all_headers.setdefault("Origin", f"http://{self.host}")
        content = body if body is None or isinstance(body, bytes) else json.dumps(body).encode()
        connection.putrequest(method, path, skip_host=True)
        if content is not None:
            connection.putheader("Content-Length", str(len(content)))
        for name, value in all_headers.items():
            if value is not None:
                connection.putheader(name, value)
        connection.endheaders(content)
        answer = connection.getresponse()
        found = answer.status, answer.headers, answer.read()
        connection.close()
        return found

    def json(self, path: str) -> Any:
        status, _, body = self.ask(path)
        assert status == 200, body
        return json.loads(body)

    def post(self, path: str, **content: Any) -> tuple[int, Any]:
        status, _, body = self.ask(path, "POST", content)
        return status, json.loads(body)

    @contextmanager
    def view(self, path: str) -> Iterator[socket.socket]:
        """A connection that has asked for a stream."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=20) as connection:
            connection.sendall(f"GET {path} HTTP/1.1\r\nHost: {self.host}\r\n\r\n".encode())
            yield connection

    @staticmethod
    def read_until(connection: socket.socket, pattern: bytes) -> bytes:
        content = b""
        while not re.search(pattern, content, re.DOTALL):
            received = connection.recv(1 << 16)
            assert received, content[-500:]
            content += received
        return content


def page_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("edgeq-page")]
