"""``edgeq watch``: classify what a camera sees."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from edgeq.classification import class_names
from edgeq.cli.help import Command, option
from edgeq.cli.keeping import Keeping, keep_options, take_keep_options
from edgeq.cli.options import FiniteRange, kernels_option, make_overrides, model_options, runtime_option, trust_option
from edgeq.cli.values import Size
from edgeq.execution.machine import read_throttling
from edgeq.inference.classify import Loading, load_model
from edgeq.report.watching import deviation_line, event_line, live_line
from edgeq.watching import Expected, Interruption, Keeper, Observed, watch
from edgeq.watching.expected import expected_of, read_comparison
from edgeq.watching.picture import MOST_PICTURES_PER_S
from edgeq.watching.service import notify_alive, notify_ready
from edgeq.watching.sources import open_source
from edgeq.watching.tally import Tally

if TYPE_CHECKING:
    from edgeq.watching.board import BoardKeeper
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
@option(
    "Output", "--events", is_flag=True, help="With --json: only new labels, kept photos, interruptions and deviations."
)
@option(
    "Output",
    "--web",
    metavar="[HOST:]PORT",
    help="Serve a live page at this address. Without HOST, only to this machine; else the page needs the token in the "
    "address that is printed.",
)
@option(
    "Output",
    "--expect",
    metavar="FILE",
    help="Compare what the camera sees with photos, so that a covered camera is noticed. FILE is what edgeq compare "
    "--json wrote with this model as CANDIDATE.",
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
@option(
    "Device",
    "--on",
    "host",
    metavar="HOST",
    help="Capture and classify on a board over SSH: [user@]host[:port]. SOURCE and --keep are then the board's. See "
    "edgeq device.",
)
@model_options
def command(
    source: str,
    model_path: str,
    as_json: bool,
    events: bool,
    web: str | None,
    expect: str | None,
    frames: int | None,
    host: str | None,
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

    With --on, a board does all this, and the results, the page and the JSON are here. Ctrl-C ends it there.

    \b
    Examples:
      $ edgeq watch picamera --model m.tflite
      $ edgeq watch http://camera.local/stream --model m.tflite --json --events
      $ ffmpeg -i video.mp4 -c:v mjpeg -f mjpeg - | edgeq watch - --model m.tflite
      $ edgeq watch incoming/ --model m.tflite --threshold 0.8
      $ edgeq watch picamera --model m.tflite --web 8000
      $ edgeq watch picamera --model m.tflite --web 0.0.0.0:8000
      $ edgeq watch picamera --model m.tflite --keep kept --keep-below 0.6
      $ edgeq watch picamera --model m.tflite --expect drift.json
      $ edgeq watch picamera --model m.tflite --on pi@raspberrypi --web 8000
    """
    if events and not as_json:
        raise click.UsageError("--events: needs --json; without it, only events are printed anyway")
    loading = Loading(runtime, threads, kernels, make_overrides(labels, normalize, channels, crop))
    camera, keep = {"size": size, "rate": rate}, take_keep_options(settings)
    comparison = read_comparison(expect, model_path) if expect else None  # before a board is contacted
    if host is None:
        begun = _here(source, model_path, loading, camera, keep, settings)
    else:
        pictures = {"pictures_per_s": MOST_PICTURES_PER_S if web else 0}
        begun = _on_board(host, source, model_path, loading, keep, camera | pictures | settings)
    with begun as watched:
        expected = expected_of(comparison, watched.labels) if comparison else None
        with _page(web, watched, Path(model_path).name, expected) as page, closing(watched.seen):
            _follow(watched, page, _Screen(as_json, events, Tally(expected)), frames)


@dataclass(frozen=True)
class _Watched:
    """A watch that has begun, on this machine or on a board."""

    source: str
    labels: Sequence[str]
    seen: Generator[Observed | Interruption, None, None]
    keeper: Keeper | BoardKeeper | None
    throttling: Callable[[], tuple[str, ...] | None]


def _follow(watched: _Watched, page: WatchPage | None, screen: _Screen, frames: int | None) -> None:
    """Show what is seen, and offer it to the keeper, until the source ends or that many frames were classified."""
    keeping = Keeping(watched.keeper)
    notify_ready()
    try:
        classified = 0
        for item in watched.seen:
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
def _here(
    source: str,
    model_path: str,
    loading: Loading,
    camera: dict[str, Any],
    keep: dict[str, Any] | None,
    smoothing: dict[str, Any],
) -> Iterator[_Watched]:
    opened = open_source(source, **camera)
    model = load_model(model_path, loading)
    labels = class_names(model.labels, model.classes)
    with Keeper(model=model, source=source, **keep) if keep else nullcontext() as keeper:
        yield _Watched(opened.name, labels, watch(opened, model, **smoothing), keeper, read_throttling)


@contextmanager
def _on_board(
    host: str, source: str, model_path: str, loading: Loading, keep: dict[str, Any] | None, settings: dict[str, Any]
) -> Iterator[_Watched]:
    if source == "-":
        raise click.UsageError("--on: a board has no standard input; give another source")
    from edgeq.cli.progress import Progress  # imported here: only boards need these; start-up time matters
    from edgeq.watching.board import BoardWatch

    with Progress() as progress:
        board = BoardWatch(host, source, model_path, loading=loading, keep=keep, progress=progress, **settings)
    with board:
        yield _Watched(board.name, board.labels, board.seen(), board.keeper, lambda: board.throttling)


@contextmanager
def _page(address: str | None, watched: _Watched, model: str, expected: Expected | None) -> Iterator[WatchPage | None]:
    """Open the page, and print where it is; None without an address."""
    if address is None:
        yield None
        return
    from edgeq.watching.web import WatchPage  # imported here: nothing else needs a server

    about: dict[str, Any] = {"source": watched.source, "keeper": watched.keeper, "throttling": watched.throttling}
    with WatchPage(address, watched.labels, model=model, expected=expected, **about) as page:
        click.echo(f"Page: {page.url}", err=True)
        yield page


class _Screen:
    """Prints events and, on a terminal, one live line below them."""

    def __init__(self, as_json: bool, events: bool, tally: Tally) -> None:
        self._as_json, self._events, self._tally = as_json, events, tally
        self._live = not as_json and sys.stdout.isatty()

    def show(self, item: Observed | Interruption, kept: Path | None = None) -> None:
        """Show a result or an interruption, and in the JSON the photo's path if it was kept."""
        is_event = isinstance(item, Interruption) or item.changed
        if self._as_json:
            if is_event or kept or not self._events:
                self._print(json.dumps(item.to_json() | ({"kept": str(kept)} if kept else {})))
        elif is_event:
            self._print(event_line(item))
        if isinstance(item, Observed):
            self._count(item)
            if self._live:
                click.echo(_CLEAR + live_line(item, shutil.get_terminal_size().columns), nl=False)

    def _count(self, seen: Observed) -> None:
        """Count a frame, and say when what is seen has become unlike the photos, or no longer is."""
        before = self._tally.deviation
        self._tally.add(seen)
        found = self._tally.deviation
        if (found is None) == (before is None):
            return
        if self._as_json:
            event = {"event": "deviation", "time": seen.time, "deviation": asdict(found) if found else None}
            self._print(json.dumps(event))
        else:
            self._print(deviation_line(found, seen.time))

    def finish(self) -> None:
        """End the live line, or print the summary as JSON."""
        if self._as_json:
            self._print(json.dumps(self._tally.to_json()))
        elif self._live:
            click.echo()

    def _print(self, line: str) -> None:
        click.echo((_CLEAR if self._live else "") + line)
        sys.stdout.flush()  # a reader at the other end of a pipe wants it now
