"""The process on a board that watches for a host: ``python -m edgeq.watching.worker``, which the agent starts.

It answers requests until its standard input closes. The host asks for results again and again, and gets those that
came since it asked last. The first request starts the watch. Each one describes the watch completely, so it can be
repeated to another process after a broken connection.
"""

from __future__ import annotations

import os
import time
from collections import deque
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from threading import Condition, Thread
from typing import Any

from edgeq.errors import EdgeqError
from edgeq.execution.machine import read_throttling
from edgeq.execution.serving import Reply, serve
from edgeq.images import Source as Image
from edgeq.inference.classify import Loading, load_model
from edgeq.runtime.admission import trusting
from edgeq.tflite.metadata import Overrides
from edgeq.watching.keeping import Keeper
from edgeq.watching.observed import COUNTS, Interruption, Observed
from edgeq.watching.picture import jpeg_bytes
from edgeq.watching.sources import open_source
from edgeq.watching.watch import watch

__all__ = ["main"]

_ANSWER_WITHIN_S = 1.0  # also without a result: the host may want to keep a frame
_MOST_WAITING = 300  # results, for a host that is slow
_FORGOTTEN_AFTER_S = 30.0  # a host that was switched off does not say goodbye, and the camera must become free
_THROTTLING_EVERY_S = 10.0


class _Watch:
    """A watch on a thread, and the results that the host does not have yet."""

    def __init__(self, request: dict[str, Any]) -> None:
        self._before, self._interval_s = request["before"], request["picture_interval_s"]
        source, model = request["source"], request["model"]
        opened = open_source(source, tuple(request["size"]), request["rate"])
        with trusting(model["trust"]):
            overrides = _overrides(**request["overrides"])
            loaded = load_model(model["path"], Loading(model["runtime"], model["threads"], model["kernels"], overrides))
        self.classes = loaded.classes
        rules = request["keep"]
        self.keeper = Keeper(model=loaded, source=source, model_name=request["name"], **rules) if rules else None
        self._waiting: deque[dict[str, Any]] = deque()
        self._picture: Image = b""
        self._pictured_at = self._throttling_read_at = -float("inf")
        self._throttling: tuple[str, ...] | None = None
        self._ended = False
        self._error: Exception | None = None
        self._changed = Condition()
        self._asked_at: float | None = None  # None while a request is served
        seen = watch(opened, loaded, **request["smoothing"])
        for work in (lambda: self._run(seen), self._end_if_forgotten):
            Thread(target=work, daemon=True).start()

    def results(self) -> Reply:
        """Return what was seen since the last time, and the picture of its last frame if one is due."""
        self._asked_at = None
        try:
            return self._results()
        finally:
            self._asked_at = time.monotonic()

    def _results(self) -> Reply:
        with self._changed:
            self._changed.wait_for(lambda: self._waiting or self._ended, _ANSWER_WITHIN_S)
            items, image, ended = list(self._waiting), self._picture, self._ended
            self._waiting.clear()
            self._picture = b""
            self._changed.notify_all()
        if self._error is not None and not items:
            raise self._error
        return {
            "items": items,
            "classes": self.classes,
            "end": ended and self._error is None,
            "paused": self.keeper and self.keeper.paused,
            "throttling": self._read_throttling(),
        }, self._due_picture(image)

    def _run(self, seen: Any) -> None:
        try:
            with closing(seen):
                for item in seen:
                    self._add(item)
        except Exception as error:  # raised in the next request
            self._error = error
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _add(self, item: Observed | Interruption) -> None:
        """Queue a result. If the queue is full, wait: frames are dropped meanwhile, results never."""
        image: Image = b""
        if isinstance(item, Observed):
            image = item.image
            item = replace(item, **{name: getattr(item, name) + self._before[name] for name in COUNTS})
        kept = self.keeper.offer(item) if self.keeper else None
        with self._changed:
            self._changed.wait_for(lambda: len(self._waiting) < _MOST_WAITING)
            self._waiting.append(item.to_json() | ({"kept": str(kept)} if kept else {}))
            self._picture = image
            self._changed.notify_all()

    def _due_picture(self, image: Image) -> bytes:
        now = time.monotonic()
        is_due = self._interval_s is not None and now - self._pictured_at >= self._interval_s
        if not is_due or (isinstance(image, bytes) and not image):
            return b""
        self._pictured_at = now
        try:
            return jpeg_bytes(image)
        except EdgeqError:  # the photo of a folder was moved away
            return b""

    def _read_throttling(self) -> tuple[str, ...] | None:
        """Return what the firmware reports, for the page, which shows pictures."""
        if self._interval_s is not None and time.monotonic() - self._throttling_read_at > _THROTTLING_EVERY_S:
            self._throttling, self._throttling_read_at = read_throttling(), time.monotonic()
        return self._throttling

    def _end_if_forgotten(self) -> None:
        while True:
            time.sleep(1)
            if (asked_at := self._asked_at) is not None and time.monotonic() - asked_at > _FORGOTTEN_AFTER_S:
                os._exit(1)


_watches: list[_Watch] = []  # none before the first request, then one


def main() -> None:
    """Answer requests until standard input closes."""
    serve({"watch": _results, "keep_frame": _keep_frame})


def _results(request: dict[str, Any], payload: bytes) -> Reply:
    """Start the watch if it does not run, and return what was seen since the last time."""
    if not _watches:
        _watches.append(_Watch(request))
    return _watches[0].results()


def _keep_frame(request: dict[str, Any], payload: bytes) -> Reply:
    """Keep a frame that a person chose at the host."""
    keeper = _watches[0].keeper if _watches else None
    if keeper is None:
        raise EdgeqError("has just begun to watch again; try once more")
    photo: Path = keeper.keep(Observed.from_json(request["observed"], payload), request["label"])
    return {"photo": str(photo)}, b""


def _overrides(normalization: Any, channels: str | None, crop: float | None, labels: Any) -> Overrides:
    return Overrides(
        normalization and tuple(tuple(values) for values in normalization), channels, crop, labels and tuple(labels)
    )


if __name__ == "__main__":
    main()
