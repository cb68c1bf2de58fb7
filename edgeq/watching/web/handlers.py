"""The requests that the page answers. docs/watch.md lists them."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from concurrent.futures import Executor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tornado.iostream import StreamClosedError
from tornado.web import Application, HTTPError, RequestHandler

from edgeq.errors import EdgeqError
from edgeq.style import base_style
from edgeq.watching.observed import Observed
from edgeq.watching.web.access import Access
from edgeq.watching.web.feed import Feed
from edgeq.watching.web.pictures import Pictures
from edgeq.watching.web.state import PhotoKeeper, WatchState

__all__ = ["Shared", "application"]

_FOLDER = Path(__file__).parent / "static"
_SLOWEST_S = 10.0  # a viewer that takes nothing for so long is cut off
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    "img-src 'self' blob: data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Referrer-Policy": "no-referrer",
    "X-Content-Type-Options": "nosniff",
    "Cache-Control": "no-store",
}
_NEEDS_TOKEN = "open the address with ?token= that edgeq printed, or send the header Authorization: Bearer TOKEN"


@dataclass(frozen=True)
class Shared:
    """What the requests work with.

    Attributes:
        state: what the page shows.
        state_json: returns it as JSON data, up to date.
        access: who may use it.
        keeper: what keeps photos, or None.
        pictures: the pictures.
        feeds: ``picture`` and ``state``.
        executor: where to keep photos, which may wait for a disk.
    """

    state: WatchState
    state_json: Callable[[], Awaitable[dict[str, Any]]]
    access: Access
    keeper: PhotoKeeper | None
    pictures: Pictures
    feeds: dict[str, Feed]
    executor: Executor


def application(shared: Shared) -> Application:
    """Return the page and its API."""
    settings: dict[str, Any] = {"shared": shared}
    page = [
        (f"/{'' if name == 'index.html' else name}", _File, {**settings, "kind": kind, "content": content})
        for name, kind, content in _files()
    ]
    api: list[Any] = [
        ("/stream.mjpg", _Stream, {**settings, "feed": "picture", "kind": "multipart/x-mixed-replace; boundary=frame"}),
        ("/api/events", _Stream, {**settings, "feed": "state", "kind": "text/event-stream"}),
        ("/api/state", _State, settings),
        ("/api/labels", _Labels, settings),
        ("/api/frame.jpg", _Frame, settings),
        ("/api/(hold|keep|label)", _Keep, settings),
    ]
    return Application(
        [*page, *api],
        default_handler_class=_NotFound,
        default_handler_args=settings,
        log_function=lambda handler: None,
    )


def _files() -> list[tuple[str, str, bytes]]:
    """Return the name, media type and content of each file of the page. Nothing else on the disk is served."""
    style = base_style() + (_FOLDER / "watch.css").read_text(encoding="utf-8")
    return [
        ("index.html", "text/html; charset=utf-8", (_FOLDER / "index.html").read_bytes()),
        ("watch.css", "text/css; charset=utf-8", style.encode()),
        ("watch.js", "text/javascript; charset=utf-8", (_FOLDER / "watch.js").read_bytes()),
    ]


class _Handler(RequestHandler):
    """Checks who asks, and answers errors with one line."""

    def initialize(self, shared: Shared) -> None:
        self.shared = shared

    def set_default_headers(self) -> None:
        self.clear_header("Server")
        for name, value in _HEADERS.items():
            self.set_header(name, value)

    def prepare(self) -> None:
        access, headers = self.shared.access, self.request.headers
        refusal = access.refusal(headers, changes=self.request.method not in ("GET", "HEAD"))
        if refusal is not None:
            raise HTTPError(403, reason=refusal)
        asked = self.get_query_argument("token", None) if self.request.path == "/" else None
        if not access.knows_token(asked, self.get_cookie(access.cookie), access.bearer(headers)):
            raise HTTPError(401, reason=_NEEDS_TOKEN)
        if asked is not None and access.token is not None:
            # Out of the address bar, and into a cookie that scripts cannot read and other sites cannot use.
            self.set_cookie(access.cookie, access.token, httponly=True, samesite="Strict")
            self.redirect("/", status=303)

    def write_error(self, status_code: int, **_: Any) -> None:
        self.finish({"error": self._reason})


class _NotFound(_Handler):
    def get(self) -> None:
        raise HTTPError(404, reason="no such page")

    post = get


class _File(_Handler):
    def initialize(self, shared: Shared, kind: str, content: bytes) -> None:  # type: ignore[override]
        self.shared, self._kind, self._content = shared, kind, content

    def get(self) -> None:
        self.set_header("Content-Type", self._kind)
        self.finish(self._content)


class _State(_Handler):
    async def get(self) -> None:
        self.finish(await self.shared.state_json())


class _Labels(_Handler):
    def get(self) -> None:
        self.finish({"labels": self.shared.state.labels})


class _Frame(_Handler):
    async def get(self) -> None:
        newest = await self.shared.pictures.newest()
        if newest is None:
            raise HTTPError(404, reason="no frame yet")
        self.set_header("Content-Type", "image/jpeg")
        self.set_header("X-Frame", str(newest[0]))
        self.finish(newest[1])  # not awaited: the viewer may be gone


class _Stream(_Handler):
    def initialize(self, shared: Shared, feed: str, kind: str) -> None:  # type: ignore[override]
        self.shared, self._feed, self._kind = shared, shared.feeds[feed], kind
        self._gone = False

    def on_connection_close(self) -> None:
        self._gone = True

    async def get(self) -> None:
        self.set_header("Content-Type", self._kind)
        number = self._feed.number
        with self._feed.viewer():
            while not self._gone:
                newest = await self._feed.after(number)
                if newest is None:
                    return
                number, value = newest
                self.write(value)
                try:
                    sent = self.flush()
                    if not sent.done():
                        await asyncio.wait_for(sent, _SLOWEST_S)
                except StreamClosedError:
                    return
                except asyncio.TimeoutError:
                    self.detach().close()
                    return


class _Keep(_Handler):
    async def post(self, what: str) -> None:
        keeper, pictures = self.shared.keeper, self.shared.pictures
        if keeper is None:
            raise HTTPError(404, reason="photos are not kept")
        request = self._request()
        observed = self._observed(request.get("frame"))
        if what == "hold":
            pictures.hold(observed.frame)
            self.finish({"frame": observed.frame})
            return
        label = request.get("label") if what == "label" else None
        if what == "label" and label not in self.shared.state.labels:
            raise HTTPError(400, reason="label: not a label of the model")
        loop = asyncio.get_running_loop()
        try:
            file = await loop.run_in_executor(self.shared.executor, keeper.keep, observed, label)
        except EdgeqError as error:
            self.set_status(409)
            self.finish({"error": str(error)})
            return
        self.finish({"frame": observed.frame, "file": str(file)})

    def _request(self) -> dict[str, Any]:
        try:
            request = json.loads(self.request.body)
        except (ValueError, RecursionError):
            raise HTTPError(400, reason="the body is not JSON") from None
        if not isinstance(request, dict):
            raise HTTPError(400, reason="the body is not a JSON object")
        return request

    def _observed(self, frame: object) -> Observed:
        observed = self.shared.pictures.shown(frame) if type(frame) is int else None
        if observed is None:
            raise HTTPError(410, reason="frame: was not shown on the page, or too long ago")
        return observed
