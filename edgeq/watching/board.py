"""Watch on a board, from here: the board captures and classifies, and the results come over SSH."""

from __future__ import annotations

import time
from collections.abc import Generator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeq.classification import class_names
from edgeq.closing import Closing
from edgeq.device.device import Device
from edgeq.device.setup import set_up
from edgeq.errors import ConnectionLostError, DeviceError, InputError
from edgeq.inference.classify import Loading
from edgeq.progress import Progress, no_progress
from edgeq.runtime.admission import is_trusting
from edgeq.tflite.metadata import Overrides, read_metadata
from edgeq.watching.observed import COUNTS, Interruption, Observed, from_json
from edgeq.watching.source import FrameSource, GrowingWait

if TYPE_CHECKING:
    from edgeq.runtime import Model

__all__ = ["BoardKeeper", "BoardWatch"]

_RECOVERY_S = 60.0  # after a broken connection, the earlier process may still use the folder of kept photos
_REMEMBERED = 1000  # kept photos whose paths can be asked for


class BoardWatch(Closing):
    """A watch that runs on a board; used as ``with BoardWatch(...) as board``, which ends it there.

    Attributes:
        name: the source's name in messages, with the board's.
        labels: the model's labels, or its classes' numbers.
        keeper: keeps photos on the board; None if it was not asked to.
        throttling: what a Raspberry Pi's firmware reports about its power and heat; None if unknown, or without
            pictures.
    """

    def __init__(
        self,
        host: str,
        source: str | FrameSource,
        model: str | Path | Model,
        *,
        size: tuple[int, int] = (480, 640),
        rate: float = 30.0,
        loading: Loading | None = None,
        keep: Mapping[str, Any] | None = None,
        pictures_per_s: float = 0.0,
        progress: Progress = no_progress,
        **smoothing: Any,
    ) -> None:
        """Connect, set up the board if needed, send the model, and start.

        Args:
            host: the board's address, see :meth:`edgeq.device.address.Address.parse`.
            source: the name of a source of the board, see `edgeq.watch`. Paths are relative to the home there.
            model: the model's file here.
            size: see `edgeq.watch`.
            rate: see `edgeq.watch`.
            loading: how to load the model; None for the defaults.
            keep: arguments of `edgeq.Keeper` as JSON data, with the board's ``folder``; None to keep no photos.
            pictures_per_s: most frames per second whose image the board sends; 0 for none.
            progress: called while files are sent.
            smoothing: ``window``, ``threshold``, ``hysteresis`` and ``top``, see `edgeq.watch`.

        Raises:
            InputError: the address, the model or an option is invalid.
            DeviceError: the board cannot be reached, or cannot watch; the message says why.
        """
        if not isinstance(source, str) or source == "-":
            raise InputError("a board has no standard input and no sources of this process; name a source of the board")
        path = Path(model) if isinstance(model, str | Path) else model.path
        loading = loading or Loading()
        overrides = loading.overrides or Overrides()
        labels = overrides.labels or read_metadata(path).labels
        self._device = Device(host, progress)
        self.name = f"{source} on {self._device.address}"
        self._ended = False
        self.throttling: tuple[str, ...] | None = None
        try:
            set_up(self._device)
            about = {"runtime": loading.runtime, "threads": loading.threads, "kernels": loading.kernels}
            self._request: dict[str, Any] = {
                "source": source,
                "name": path.name,
                "model": about | {"path": self._device.send(path), "trust": is_trusting()},
                "overrides": asdict(overrides),
                "size": size,
                "rate": rate,
                "smoothing": smoothing,
                "picture_interval_s": 1 / pictures_per_s if pictures_per_s else None,
                "keep": dict(keep) if keep else None,
            }
            self._before = dict.fromkeys(COUNTS, 0)
            self.keeper = BoardKeeper(self._device, self._request["model"], keep["folder"]) if keep else None
            self._first, classes = self._results()
        except BaseException:
            self._device.close()
            raise
        self.labels = class_names(labels or (), classes)

    def close(self) -> None:
        """End the watch on the board, and the connection."""
        self._device.close()

    def seen(self) -> Generator[Observed | Interruption, None, None]:
        """Yield what `edgeq.watch` yields there. An `Interruption` may also be one of the connection.

        Raises:
            DeviceError: the board cannot go on.
        """
        items, wait = self._first, GrowingWait()
        lost_at: float | None = None
        while True:
            yield from items
            if self._ended:
                return
            try:
                items, _ = self._results()
                wait.reset()
                lost_at = None
            except DeviceError as error:
                if isinstance(error, ConnectionLostError):
                    lost_at = time.monotonic()
                elif lost_at is None or time.monotonic() - lost_at > _RECOVERY_S:
                    raise
                self._before["interruptions"] += 1
                items = []
                lost = Interruption(time.time(), str(error), wait.take())
                yield lost
                time.sleep(lost.wait_s)

    def _results(self) -> tuple[list[Observed | Interruption], int]:
        """Ask for what was seen since the last time; also return the model's number of classes."""
        answer, picture = self._device.ask_once("watch", before=self._before, **self._request)
        try:
            last = len(answer["items"]) - 1
            items = [from_json(item, picture if at == last else b"") for at, item in enumerate(answer["items"])]
            if self.keeper is not None:
                self.keeper.remember(answer)
            throttling = answer["throttling"]
            self.throttling = None if throttling is None else tuple(throttling)
            self._ended = answer["end"]
            classes = int(answer["classes"])
        except (KeyError, TypeError, ValueError) as error:
            raise DeviceError(f"{self._device.address}: sent what is no result of a watch ({error!r})") from None
        for item in items:
            if isinstance(item, Observed):
                self._before = {name: getattr(item, name) for name in COUNTS}
            else:
                self._before["interruptions"] += 1
        return items, classes


class BoardKeeper:
    """What keeps photos on a board, with those methods of `edgeq.Keeper` that a page and the command line use.

    Attributes:
        folder: the folder on the board.
        paused: why nothing is kept at present; None if photos are kept.
    """

    def __init__(self, device: Device, model: dict[str, Any], folder: str) -> None:
        self.folder, self.paused = Path(folder), None
        self._device, self._model = device, model
        self._kept: dict[int, Path] = {}  # by the frame

    def remember(self, answer: dict[str, Any]) -> None:
        """Take over what the board reports of kept photos."""
        self.paused = answer["paused"]
        self._kept |= {item["frame"]: Path(item["kept"]) for item in answer["items"] if "kept" in item}
        for frame in list(self._kept)[:-_REMEMBERED]:
            del self._kept[frame]

    def offer(self, seen: Observed | Interruption) -> Path | None:
        """Return the path on the board if the board kept the frame, else None."""
        return None if isinstance(seen, Interruption) else self._kept.get(seen.frame)

    def keep(self, seen: Observed, label: str | None = None) -> Path:
        """Keep a frame on the board; see `edgeq.Keeper.keep`.

        Raises:
            DeviceError: the board cannot keep it, or is unreachable.
        """
        jpeg = seen.image if isinstance(seen.image, bytes) else b""
        answer, _ = self._device.ask_once("keep_frame", jpeg, model=self._model, observed=seen.to_json(), label=label)
        return Path(answer["photo"])
