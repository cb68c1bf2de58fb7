"""``edgeq watch``: classify what a camera sees."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.cli.help import Command, option
from edgeq.cli.keeping import Keeping, keep_options
from edgeq.cli.options import FiniteRange, kernels_option, make_overrides, model_options, runtime_option, trust_option
from edgeq.cli.values import Size
from edgeq.inference.classify import Loading, load_model
from edgeq.report.watching import event_line, live_line
from edgeq.watching import Interruption, Keeper, Observed, watch
from edgeq.watching.service import notify_alive, notify_ready
from edgeq.watching.source import FrameSource
from edgeq.watching.sources import open_source
from edgeq.watching.tally import Tally

if TYPE_CHECKING:
    from edgeq.runtime import Model
    from edgeq.watching.web import WatchPage

__all__ = ["command"]

_CLEAR = "\r\x1b[K"


@click.command("watch", cls=Command)
@click.argument("source")
@option("Input", "--model", "-m", "model_path", required=True, metavar="FILE", help="The .tflite model.")
@trust_option
@option(
    "Camera", "--size", type=Size(), default="640x480", metavar="WxH", help="Size of the frames to ask a camera for."
)
@option("Camera", "--rate", type=FiniteRange(0, min_open=True), default=30.0, help="Frames per second to ask for.")
@option("Labels", "--window", type=click.IntRange(1), default=5, help="Number of frames to average.")
@option("Labels", "--threshold", type=FiniteRange(0, 1), default=0.5, help="Average probability that a label needs.")
@option(
    "Labels", "--hysteresis", type=FiniteRange(0, 1), default=0.1, help="Lead that another label needs to take over."
)
@keep_options
@option("Output", "--top", default=5, type=click.IntRange(1), help="Number of classes per frame in the JSON.")
@option("Output", "--json", "as_json", is_flag=True, help="Print one JSON object per frame, each on its own line.")
@option("Output", "--events", is_flag=True, help="With --json: only new labels, kept photos and interruptions.")
@option(
    "Output",
    "--web",
    metavar="[HOST:]PORT",
    help="Serve a live page at this address. Without HOST, only to this machine; else the page needs the token in the "
    "address that is printed.",
)
@option("Output", "--frames", type=click.IntRange(1), help="Stop after this number of classified frames.")
@runtime_option
@option(
    "Runtime",
    "--threads",
    type=click.IntRange(1),
    show_default="the number of cores, at most 4",
    help="Number of threads of the interpreter.",
)
@kernels_option
@model_options
def command(
    source: str,
    model_path: str,
    as_json: bool,
    events: bool,
    web: str | None,
    frames: int | None,
    size: tuple[int, int],
    rate: float,
    runtime: str | None,
    threads: int | None,
    kernels: str,
    labels: str | None,
    normalize: str | None,
    channels: str | None,
    crop: float | None,
    **settings: Any,
) -> None:
    """Classify what a camera sees, until ctrl-C.

    SOURCE is picamera (a Raspberry Pi's camera), /dev/video0, a video file, the URL of an HTTP or RTSP stream, a folder
    into which photos are dropped, or - for JPEG images on standard input. A terminal shows one live line and the labels
    that were seen. edgeq always classifies the newest frame and counts those that it drops.

    A camera or stream that fails is opened again. Devices, video files and RTSP need the extra: pip install
    'edgeq[camera]'. --web serves a live page with the picture, the labels and the speed; it needs the extra
    'edgeq[web]'.

    \b
    Examples:
      $ edgeq watch picamera --model m.tflite
      $ edgeq watch http://camera.local/stream --model m.tflite --json --events
      $ ffmpeg -i video.mp4 -c:v mjpeg -f mjpeg - | edgeq watch - --model m.tflite
      $ edgeq watch incoming/ --model m.tflite --threshold 0.8
      $ edgeq watch picamera --model m.tflite --web 8000
      $ edgeq watch picamera --model m.tflite --web 0.0.0.0:8000
      $ edgeq watch picamera --model m.tflite --keep kept --keep-below 0.6
    """
    if events and not as_json:
        raise click.UsageError("--events: needs --json; without it, only events are printed anyway")
    opened = open_source(source, size, rate)
    loading = Loading(runtime, threads, kernels, make_overrides(labels, normalize, channels, crop))
    model = load_model(model_path, loading)
    screen = _Screen(as_json, events)
    keeping = Keeping(model_path, source, settings)
    notify_ready()
    with _page(web, model, opened, keeping.keeper) as page, closing(watch(opened, model, **settings)) as seen:
        try:
            classified = 0
            for item in seen:
                if page is not None:
                    page.show(item)
                screen.show(item, keeping.offer(item))
                if isinstance(item, Observed):
                    notify_alive()
                    classified += 1
                if classified == frames:
                    break
        finally:
            screen.finish()


@contextmanager
def _page(address: str | None, model: Model, source: FrameSource, keeper: Keeper | None) -> Iterator[WatchPage | None]:
    """Open the page, and print where it is; None without an address."""
    if address is None:
        yield None
        return
    from edgeq.watching.web import WatchPage  # imported here: nothing else needs a server

    labels = model.labels or tuple(map(str, range(model.classes)))
    with WatchPage(address, labels, model=Path(model.path).name, source=source.name, keeper=keeper) as page:
        click.echo(f"Page: {page.url}", err=True)
        yield page


class _Screen:
    """Prints events and, on a terminal, one live line below them."""

    def __init__(self, as_json: bool, events: bool) -> None:
        self._as_json, self._events = as_json, events
        self._live = not as_json and sys.stdout.isatty()
        self._tally = Tally()

    def show(self, item: Observed | Interruption, kept: Path | None = None) -> None:
        """Show a result or an interruption, and in the JSON the photo's path if it was kept."""
        is_event = isinstance(item, Interruption) or item.changed
        if isinstance(item, Observed):
            self._tally.add(item)
        if self._as_json:
            if is_event or kept or not self._events:
                self._print(json.dumps(item.to_json() | ({"kept": str(kept)} if kept else {})))
            return
        if is_event:
            self._print((_CLEAR if self._live else "") + event_line(item))
        if self._live and isinstance(item, Observed):
            click.echo(_CLEAR + live_line(item, shutil.get_terminal_size().columns), nl=False)

    def finish(self) -> None:
        """End the live line, or print the summary as JSON."""
        if self._as_json:
            self._print(json.dumps(self._tally.to_json()))
        elif self._live:
            click.echo()

    @staticmethod
    def _print(line: str) -> None:
        click.echo(line)
        sys.stdout.flush()  # a reader at the other end of a pipe wants it now
