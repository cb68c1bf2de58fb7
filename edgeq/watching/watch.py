"""Watch a source: capture, decode and run the model on separate threads, always on the newest frame."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Event, Thread
from typing import TYPE_CHECKING, Any

from edgeq.classification import class_name, top_predictions
from edgeq.errors import ImageError
from edgeq.execution.machine import read_temperature_c
from edgeq.images import Source as Image
from edgeq.inference.classify import Loading, load_model
from edgeq.watching.newest import Newest
from edgeq.watching.observed import Interruption, Observed
from edgeq.watching.smoothing import Smoother
from edgeq.watching.source import FrameSource, GrowingWait, SourceLostError
from edgeq.watching.sources import open_source

if TYPE_CHECKING:
    from edgeq.runtime import Model

__all__ = ["watch"]

_AVERAGED = 30  # results over which the frame rate is averaged
_TEMPERATURE_EVERY_S = 2.0
_PATIENCE_S = 2.0  # for a thread to end
_EARLY = 2.0  # how many times its latest duration before the model is ready, a frame's decoding starts


def watch(
    source: str | FrameSource,
    model: str | Path | Model,
    *,
    window: int = 5,
    threshold: float = 0.5,
    hysteresis: float = 0.1,
    top: int = 5,
    size: tuple[int, int] = (480, 640),
    rate: float = 30.0,
    on: str | None = None,
    **loading: Any,
) -> Generator[Observed | Interruption, None, None]:
    """Classify the newest frame of a source again and again.

    Capture, decoding and inference run on separate threads. A frame that comes while the model still runs replaces the
    one that waits; frames are decoded only when the model is nearly ready for them. So a result is at most two
    inferences old, whatever the source's frame rate, and memory stays bounded. Photos in a folder all count.

    A camera or stream that fails is opened again, after waits that grow from 1 to 30 s. A frame that cannot be decoded
    is counted and skipped. This is a generator: close it to stop.

    Args:
        source: ``-`` for JPEG images on standard input, ``picamera``, a URL, ``/dev/video0``, a video file, a folder
            into which photos are dropped; or an object with frames, see `edgeq.watching.source.FrameSource`.
        model: a .tflite file, or a loaded `Model`.
        window: number of frames to average probabilities over.
        threshold: mean probability that a label must reach.
        hysteresis: margin of probability by which another label must be ahead.
        top: number of predictions per frame.
        size: (height, width) to ask a camera for, in pixels.
        rate: frames per second to ask a camera for.
        on: a board that captures and classifies, ``[user@]host[:port]``. The source is then the board's; the model's
            file is sent to it. A broken connection is an `Interruption`. The results have no image; for one, and to
            keep photos on the board, see `edgeq.watching.board.BoardWatch`.
        loading: options for loading a model, see `edgeq.classify`.

    Yields:
        One `Observed` per frame that the model ran on, and an `Interruption` each time the source fails.

    Raises:
        InputError: there is no such source, or an option is invalid.
        ModelError: the model cannot be loaded or run.
        DeviceError: the board cannot be reached at the start, or cannot watch.
        EdgeqError: the source cannot be used.
    """
    if on is not None:
        from edgeq.watching.board import BoardWatch  # imported here: only boards need SSH

        options: dict[str, Any] = {"window": window, "threshold": threshold, "hysteresis": hysteresis, "top": top}
        with BoardWatch(on, source, model, size=size, rate=rate, loading=Loading(**loading), **options) as board:
            yield from board.seen()
        return
    smoother = Smoother(window, threshold, hysteresis)
    opened = open_source(source, size, rate) if isinstance(source, str) else source
    pipeline = _Pipeline(opened, load_model(model, Loading(**loading)))
    try:
        yield from _results(pipeline, smoother, top)
    finally:
        pipeline.close()


@dataclass
class _Captured:
    """A frame on its way through the threads. The last four attributes are set once it is decoded."""

    number: int
    time: float
    clock: float
    image: Image
    file: str | None
    tensor: Any = None
    damaged: int = 0
    decode_ms: float = 0.0
    preprocess_ms: float = 0.0


class _Pipeline:
    """The threads that capture and decode.

    Attributes:
        model: the model.
        ready: decoded frames and interruptions, for the thread that runs the model.
        captured: frames that wait to be decoded.
        invoke_ms: how long the model took for the latest frame; None before the first.
    """

    def __init__(self, source: FrameSource, model: Model) -> None:
        self.model = model
        self.captured: Newest[_Captured | Interruption] = Newest()
        self.ready: Newest[_Captured | Interruption] = Newest()
        self.invoke_ms: float | None = None
        self._damaged = 0
        self._source, self._closing = source, Event()
        self._threads = [Thread(target=work, daemon=True) for work in (self._capture, self._decode)]
        for thread in self._threads:
            thread.start()

    def close(self) -> None:
        """Stop the threads. One that waits for standard input ends with the process."""
        self._closing.set()
        self.captured.end()
        self.ready.end()
        self._source.close()
        for thread in self._threads:
            thread.join(_PATIENCE_S)

    def _capture(self) -> None:
        number, wait = 0, GrowingWait()
        try:
            while not self._closing.is_set():
                try:
                    for image in self._source.frames():
                        number += 1
                        wait.reset()
                        file = str(image) if isinstance(image, str | Path) else None
                        frame = _Captured(number, time.time(), time.perf_counter(), image, file)
                        self.captured.put(frame, wait=self._source.keeps_all)
                        if self._closing.is_set():
                            return
                except SourceLostError as error:
                    if self._closing.is_set():
                        return
                    lost = Interruption(time.time(), str(error), wait.take())
                    self.captured.put(lost, wait=True)
                    self._closing.wait(lost.wait_s)
                else:
                    break
            self.captured.end()
        except BaseException as error:  # `take` raises it in the caller's thread
            self.captured.end(error)

    def _decode(self) -> None:
        prepare_ms = 0.0
        try:
            while True:
                if self.invoke_ms is None or self.invoke_ms > prepare_ms:
                    # A frame that is decoded too early grows old while it waits for the model.
                    self.ready.wait_until_taken()
                    self._closing.wait(max(0.0, (self.invoke_ms or 0.0) - _EARLY * prepare_ms) / 1000)
                frame = self.captured.take()
                if frame is None:
                    break
                if isinstance(frame, Interruption):
                    self.ready.put(frame, wait=True)
                elif self._prepare(frame):
                    self.ready.put(frame, wait=True)
                    prepare_ms = frame.decode_ms + frame.preprocess_ms
            self.ready.end()
        except BaseException as error:
            self.ready.end(error)

    def _prepare(self, frame: _Captured) -> bool:
        """Decode and preprocess a frame; return whether it could be decoded."""
        start = time.perf_counter()
        spec = self.model.preprocessing
        try:
            image = spec.decode(frame.image)
        except ImageError:
            self._damaged += 1
            return False
        decoded = time.perf_counter()
        frame.tensor = self.model.tensor(spec.resample(image))
        frame.damaged = self._damaged
        frame.decode_ms, frame.preprocess_ms = 1000 * (decoded - start), 1000 * (time.perf_counter() - decoded)
        return True


def _results(pipeline: _Pipeline, smoother: Smoother, top: int) -> Generator[Observed | Interruption, None, None]:
    """Run the model on what is ready, and yield the results."""
    model, before = pipeline.model, smoother.present
    finished: deque[float] = deque(maxlen=_AVERAGED)
    temperature_c, read_at = None, -_TEMPERATURE_EVERY_S
    interruptions = 0
    while (frame := pipeline.ready.take()) is not None:
        if isinstance(frame, Interruption):
            finished.clear()
            interruptions += 1
            yield frame
            continue
        start = time.perf_counter()
        probabilities = model.probabilities(model.invoke(frame.tensor))
        now = time.perf_counter()
        pipeline.invoke_ms = 1000 * (now - start)
        mean = smoother.add(probabilities)
        finished.append(now)
        if now - read_at >= _TEMPERATURE_EVERY_S:
            temperature_c, read_at = read_temperature_c(), now
        times = {
            "decode": frame.decode_ms,
            "preprocess": frame.preprocess_ms,
            "invoke": 1000 * (now - start),
            "latency": 1000 * (now - frame.clock),
        }
        shown = smoother.present if smoother.present is not None else int(mean.argmax())
        yield Observed(
            time=frame.time,
            frame=frame.number,
            file=frame.file,
            label=None if smoother.present is None else class_name(model.labels, smoother.present),
            probability=round(float(mean[shown]), 6),
            changed=smoother.present != before,
            predictions=tuple(top_predictions(probabilities, model.labels, top)),
            times_ms={step: round(ms, 3) for step, ms in times.items()},
            frames_per_second=round(_rate(finished), 2),
            dropped=pipeline.captured.dropped,
            damaged=frame.damaged,
            interruptions=interruptions,
            temperature_c=temperature_c,
            image=frame.image,
        )
        before = smoother.present


def _rate(finished: Sequence[float]) -> float:
    """Return the number of results per second, from when each was finished; 0 for a single one."""
    duration = finished[-1] - finished[0]
    return (len(finished) - 1) / duration if duration else 0.0
