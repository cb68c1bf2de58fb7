"""The server of the page: Tornado on a separate thread, with limits for what a connection may cost."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from threading import Thread
from typing import Any

from tornado.httpserver import HTTPServer
from tornado.iostream import IOStream

from edgeq.watching.picture import MOST_PICTURES_PER_S
from edgeq.watching.web.access import Access
from edgeq.watching.web.feed import Feed
from edgeq.watching.web.handlers import Shared, application
from edgeq.watching.web.pictures import Pictures
from edgeq.watching.web.state import PhotoKeeper, WatchState

__all__ = ["Server"]

MOST_CONNECTIONS = 100
"""More are closed at once. A page uses two."""
MOST_BODY_BYTES = 4096
MOST_HEADER_BYTES = 8192
REQUEST_S = 10.0
"""Time in which a request must be complete, and how long a connection may wait for the next one."""

_PICTURE_INTERVAL_S = 1 / MOST_PICTURES_PER_S
_STATE_INTERVAL_S = 0.5  # numbers that change faster cannot be read
_THROTTLING_INTERVAL_S = 10.0
_SEND_BUFFER_BYTES = 1 << 18  # a larger one would fill with old pictures if the viewer is slow
_PATIENCE_S = 5.0  # for the thread to end

# What a stranger sends is no news for the person at the terminal. Errors in edgeq (tornado.application) are.
for _name in ("tornado.access", "tornado.general"):
    logging.getLogger(_name).addHandler(logging.NullHandler())


class Server:
    """Serves the page on a separate thread until it is closed."""

    def __init__(
        self,
        listener: socket.socket,
        state: WatchState,
        access: Access,
        keeper: PhotoKeeper | None,
        throttling: Callable[[], tuple[str, ...] | None],
    ) -> None:
        """Start the thread.

        Args:
            listener: a listening socket, which is closed at the end.
            state: what the page shows.
            access: who may use it.
            keeper: what keeps photos, or None.
            throttling: returns power and heat problems, or None; called every 10 seconds.
        """
        self._listener, self._state, self._read_throttling = listener, state, throttling
        self._executor = ThreadPoolExecutor(2, thread_name_prefix="edgeq-page")
        self._pictures = Pictures(lambda: state.pictured, self._executor)
        self._feeds = {
            "picture": Feed(self._picture_part, _PICTURE_INTERVAL_S),
            "state": Feed(self._state_event, _STATE_INTERVAL_S),
        }
        self._shared = Shared(state, self._state_json, access, keeper, self._pictures, self._feeds, self._executor)
        self._throttling_read_s = -_THROTTLING_INTERVAL_S
        self._loop = asyncio.new_event_loop()
        self._closing = asyncio.Event()
        self._thread = Thread(target=self._run, name="edgeq-page", daemon=True)
        self._thread.start()

    def change(self) -> None:
        """Say that the state has changed; may be called from any thread."""
        if any(feed.viewers for feed in self._feeds.values()):
            with suppress(RuntimeError):  # the loop is closed
                self._loop.call_soon_threadsafe(self._change)

    def close(self) -> None:
        """Close all connections, and end the thread."""
        with suppress(RuntimeError):
            self._loop.call_soon_threadsafe(self._closing.set)
        self._thread.join(_PATIENCE_S)
        self._executor.shutdown(cancel_futures=True)  # a photo that is being kept is finished

    def _change(self) -> None:
        for feed in self._feeds.values():
            feed.change()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        server = _LimitedServer(
            application(self._shared),
            max_body_size=MOST_BODY_BYTES,
            max_header_size=MOST_HEADER_BYTES,
            idle_connection_timeout=REQUEST_S,
            body_timeout=REQUEST_S,
        )
        server.add_socket(self._listener)
        publishing = [asyncio.create_task(feed.run()) for feed in self._feeds.values()]
        await self._closing.wait()
        server.stop()
        for task in publishing:
            task.cancel()
        for feed in self._feeds.values():
            feed.close()
        with suppress(asyncio.TimeoutError):
            await asyncio.wait_for(server.close_all_connections(), _PATIENCE_S / 2)
        await asyncio.gather(*publishing, return_exceptions=True)

    async def _picture_part(self) -> bytes | None:
        """Return the newest picture as a part of a Motion JPEG stream."""
        newest = await self._pictures.newest()
        if newest is None:
            return None
        frame, jpeg = newest
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(jpeg)}\r\nX-Frame: {frame}\r\n\r\n"
        return head.encode() + jpeg + b"\r\n"

    async def _state_event(self) -> bytes:
        """Return the state as a server-sent event."""
        return f"data: {json.dumps(await self._state_json())}\n\n".encode()

    async def _state_json(self) -> dict[str, Any]:
        if time.monotonic() - self._throttling_read_s >= _THROTTLING_INTERVAL_S:
            self._throttling_read_s = time.monotonic()
            self._state.throttling = await self._loop.run_in_executor(self._executor, self._read_throttling)
        return self._state.to_json()


class _LimitedServer(HTTPServer):
    """Tornado's server with a limit of connections, and a small buffer for each."""

    _connected = 0

    def handle_stream(self, stream: IOStream, address: tuple[Any, ...]) -> None:
        if self._connected >= MOST_CONNECTIONS:
            stream.close()
            return
        self._connected += 1
        stream.socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER_BYTES)
        stream.set_nodelay(True)
        super().handle_stream(stream, address)

    def on_close(self, server_conn: object) -> None:
        self._connected -= 1
        super().on_close(server_conn)
