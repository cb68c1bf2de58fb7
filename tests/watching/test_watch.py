"""Watching real sources: standard input, a folder, an HTTP server that is restarted, and a program like rpicam-vid."""

from __future__ import annotations

import io
import json
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, colour_picture

import edgeq
from edgeq.errors import EdgeqError, InputError
from edgeq.watching import Interruption, Observed, watch
from edgeq.watching import watch as watch_function
from edgeq.watching.source import SourceLostError

COLOURS = ("red", "green", "blue")


def jpeg(colour: str, seed: int = 0) -> bytes:
    out = io.BytesIO()
    colour_picture(colour, seed).save(out, "JPEG", quality=95)
    return out.getvalue()


@pytest.fixture
def model(colour_models: Path) -> edgeq.Model:
    return edgeq.Model(colour_models / "colours_int8.tflite")


class Frames:
    """A source of given images; `pause` is called after each."""

    name, comes_back, keeps_all = "frames", False, True

    def __init__(self, images: list[Any], pause: Callable[[], object] = lambda: None, keeps_all: bool = True) -> None:
        self._images, self._pause, self.keeps_all = images, pause, keeps_all
        self.closed = False

    def frames(self) -> Iterator[Any]:
        for image in self._images:
            yield image
            self._pause()

    def close(self) -> None:
        self.closed = True


def test_labels_and_changes(model: edgeq.Model) -> None:
    source = Frames([jpeg("red")] * 4 + [jpeg("blue")] * 4)
    seen = list(watch(source, model, window=2))
    assert all(isinstance(item, Observed) for item in seen)
    assert [item.label for item in seen] == ["red"] * 5 + ["blue"] * 3  # type: ignore[union-attr]
    assert [item.frame for item in seen if item.changed] == [1, 6]  # type: ignore[union-attr]
    for item in seen:
        assert isinstance(item, Observed)
        expected = edgeq.classify(jpeg("red" if item.frame <= 4 else "blue"), model)
        assert item.predictions == expected.predictions
        assert item.times_ms["latency"] >= item.times_ms["invoke"] > 0
        assert json.loads(json.dumps(item.to_json()))["event"] == ("label" if item.changed else "frame")
    assert source.closed


def test_the_newest_frame_counts_and_old_ones_are_dropped(model: edgeq.Model) -> None:
    """2,000 frames come at once; the last one is always classified."""
    source = Frames([jpeg("red")] * 1999 + [jpeg("green")], keeps_all=False)
    seen = [item for item in watch(source, model, window=1) if isinstance(item, Observed)]
    assert seen[-1].frame == 2000
    assert seen[-1].label == "green"
    assert seen[-1].dropped == 2000 - len(seen) > 0


def test_a_result_is_at_most_two_inferences_old(model: edgeq.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    """By counting, not by the clock: the frames that a slow model sees are the newest when the run before it began."""
    begun: list[int] = []
    latest = 0
    invoke = model.invoke

    def slow(tensor: Any) -> Any:
        begun.append(latest)
        time.sleep(0.05)
        return invoke(tensor)

    class Camera(Frames):
        def frames(self) -> Iterator[Any]:
            nonlocal latest
            for number in range(1, 300):
                latest = number
                yield jpeg("red")
                time.sleep(0.002)

    monkeypatch.setattr(model, "invoke", slow)
    seen = [item for item in watch(Camera([], keeps_all=False), model) if isinstance(item, Observed)]
    assert 3 < len(seen) < 50
    for number in range(2, len(seen) - 1):
        assert seen[number].frame >= begun[number - 1] - 1  # the camera counts a frame before it hands it over


def test_damaged_frames_are_counted(model: edgeq.Model) -> None:
    good = jpeg("red")
    seen = list(watch(Frames([good, good[:300], b"no image", good]), model))
    assert [item.damaged for item in seen if isinstance(item, Observed)] == [0, 2]


def test_arrays_and_pictures_as_frames(model: edgeq.Model) -> None:
    picture = colour_picture("green", 0)
    seen = list(watch(Frames([np.asarray(picture), picture]), model, window=1))
    assert [item.label for item in seen if isinstance(item, Observed)] == ["green", "green"]


def test_a_source_that_fails_is_opened_again(model: edgeq.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.watching.source._FIRST_WAIT_S", 0.01)
    monkeypatch.setattr("edgeq.watching.source._LONGEST_WAIT_S", 0.03)
    attempts: list[int] = []

    class Unsteady(Frames):
        def frames(self) -> Iterator[Any]:
            attempts.append(len(attempts))
            if len(attempts) in (2, 3, 4):
                raise SourceLostError("camera: busy")
            yield jpeg("red")
            if len(attempts) < 6:
                raise SourceLostError("camera: unplugged")

    seen = list(watch(Unsteady([]), model))
    waits = [item.wait_s for item in seen if isinstance(item, Interruption)]
    assert waits == [0.01, 0.02, 0.03, 0.03, 0.01]
    assert [item.interruptions for item in seen if isinstance(item, Observed)] == [0, 4, 5]
    assert [item.frame for item in seen if isinstance(item, Observed)] == [1, 2, 3]


def test_a_bug_in_a_source_reaches_the_caller(model: edgeq.Model) -> None:
    class Broken(Frames):
        def frames(self) -> Iterator[Any]:
            yield jpeg("red")
            raise ZeroDivisionError

    seen = watch(Broken([]), model)
    assert isinstance(next(seen), Observed)
    with pytest.raises(ZeroDivisionError):
        next(seen)


def test_closing_ends_the_threads(model: edgeq.Model) -> None:
    before = set(threading.enumerate())
    seen = watch(Frames([jpeg("red")] * 10_000, lambda: time.sleep(0.001), keeps_all=False), model)
    next(seen)
    seen.close()
    assert set(threading.enumerate()) <= before


class TestFolder:
    def test_photos_that_are_dropped_into_it(self, model: edgeq.Model, tmp_path: Path) -> None:
        (tmp_path / "old.jpg").write_bytes(jpeg("red"))
        with closing(watch(str(tmp_path), model, window=1)) as seen:
            writer = threading.Thread(target=self.drop, args=(tmp_path,))
            writer.start()
            found = [item for item in islice(seen, 3) if isinstance(item, Observed)]
            writer.join()
        assert [(Path(item.file or "").name, item.label) for item in found] == [
            ("a.jpg", "green"),
            ("b.png", "blue"),
            ("a.jpg", "red"),
        ]

    @staticmethod
    def drop(folder: Path) -> None:
        time.sleep(0.4)
        (folder / "a.jpg").write_bytes(jpeg("green"))
        (folder / "notes.txt").write_text("no photo")
        colour_picture("blue", 0).save(folder / ".b.png")
        time.sleep(0.6)
        (folder / ".b.png").rename(folder / "b.png")
        time.sleep(0.6)
        (folder / "a.jpg").write_bytes(jpeg("red", 1))  # replaced


class Stream(BaseHTTPRequestHandler):
    """A Motion JPEG stream of three frames, which then ends."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        for _ in range(3):
            self.wfile.write(b"--frame\r\nContent-Type: image/jpeg\r\n\r\n" + jpeg("blue") + b"\r\n")
            time.sleep(0.05)

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@contextmanager
def server(port: int = 0) -> Iterator[int]:
    ThreadingHTTPServer.allow_reuse_address = True
    with ThreadingHTTPServer(("127.0.0.1", port), Stream) as running:
        thread = threading.Thread(target=running.serve_forever, args=(0.01,))
        thread.start()
        yield running.server_address[1]
        running.shutdown()
        thread.join()


def test_an_http_stream_that_is_restarted(model: edgeq.Model, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.watching.source._FIRST_WAIT_S", 0.05)
    monkeypatch.setattr("edgeq.watching.source._LONGEST_WAIT_S", 0.2)
    with server() as port:
        seen = watch(f"http://user:sec%3Aret@127.0.0.1:{port}/", model)
        first = [next(seen) for _ in range(2)]
    reasons = []
    for item in seen:
        if isinstance(item, Interruption):
            reasons.append(item.reason)
        if len(reasons) == 3:
            break
    with server(port):
        again = next(item for item in seen if isinstance(item, Observed))
    seen.close()
    assert isinstance(first[0], Observed)
    assert again.label == "blue"
    assert again.interruptions >= 3
    assert any("Connection refused" in reason for reason in reasons)
    assert not any("sec" in reason for reason in reasons)


CAMERA_PROGRAM = """#!{python}
# Behaves as rpicam-vid: writes MJPEG to standard output until it is stopped, messages to standard error.
import sys, time
expected = "--codec mjpeg --timeout 0 --nopreview --flush --width 320 --height 240 --framerate 15 --output -"
if sys.argv[1:] != expected.split():
    sys.exit("ERROR: *** unrecognised option ***")
sys.stderr.write("[0:12:34] [42] INFO Camera camera_manager.cpp:330 libcamera v0.5.2\\n" * 5000)
frame = open({frame!r}, "rb").read()
for _ in range({count}):
    sys.stdout.buffer.write(frame)
    sys.stdout.buffer.flush()
    time.sleep(0.02)
sys.exit("ERROR: *** Camera frontend has timed out! ***")
"""


class TestCamera:
    @pytest.fixture
    def program(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
        (tmp_path / "frame.jpg").write_bytes(jpeg("green"))
        path = tmp_path / "rpicam-vid"
        path.write_text(CAMERA_PROGRAM.format(python=sys.executable, frame=str(tmp_path / "frame.jpg"), count=20))
        path.chmod(0o755)
        monkeypatch.setenv("PATH", str(tmp_path))
        return path

    def test_frames_then_a_failure(self, model: edgeq.Model, program: Path) -> None:
        with closing(watch("picamera", model, size=(240, 320), rate=15)) as seen:
            for item in seen:
                if isinstance(item, Interruption):
                    break
                assert item.label == "green"
        assert isinstance(item, Interruption)
        assert item.reason == "picamera: rpicam-vid ended (ERROR: *** Camera frontend has timed out! ***)"

    def test_closing_ends_the_program(self, model: edgeq.Model, program: Path) -> None:
        with closing(watch("picamera", model, size=(240, 320), rate=15)) as seen:
            next(seen)
        found = subprocess.run(["/usr/bin/pgrep", "-f", str(program)], capture_output=True, text=True, check=False)
        assert found.stdout == ""

    def test_it_is_not_installed(self, model: edgeq.Model, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("PATH", "/nowhere")
        with pytest.raises(EdgeqError, match="picamera: needs the program rpicam-vid, which is not installed"):
            next(watch("picamera", model))


class TestVideo:
    @pytest.fixture
    def video(self, tmp_path: Path) -> Path:
        av = pytest.importorskip("av")
        path = tmp_path / "colours.mp4"
        with av.open(str(path), "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
            stream.bit_rate = 1_000_000
            for colour in COLOURS:
                picture = colour_picture(colour, 0, 64).resize((64, 48))
                for _ in range(4):
                    container.mux(stream.encode(av.VideoFrame.from_image(picture)))
            container.mux(stream.encode())
        return path

    def test_a_file(self, model: edgeq.Model, video: Path) -> None:
        seen = [item for item in watch(str(video), model, window=1) if isinstance(item, Observed)]
        assert seen[-1].label == "blue"
        assert seen[-1].frame == 12

    def test_no_video(self, model: edgeq.Model, tmp_path: Path) -> None:
        pytest.importorskip("av")
        (tmp_path / "notes.mp4").write_text("no video at all")
        with pytest.raises(InputError, match=r"notes\.mp4: Invalid data found"):
            list(watch(str(tmp_path / "notes.mp4"), model))

    def test_no_such_source(self, model: edgeq.Model) -> None:
        with pytest.raises(InputError, match="camera0: no such source; give picamera"):
            list(watch("camera0", model))

    def test_without_pyav(self, model: edgeq.Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setitem(sys.modules, "av", None)
        (tmp_path / "v.mp4").touch()
        with pytest.raises(EdgeqError, match=r"v\.mp4: needs PyAV.*pip install 'edgeq\[camera\]'"):
            list(watch(str(tmp_path / "v.mp4"), model))


class TestCommand:
    def run(self, model: edgeq.Model, *options: str, frames: bytes) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-m", "edgeq", "watch", "-", "--model", str(model.path), *options]
        return subprocess.run(command, cwd=ROOT, input=frames, capture_output=True, timeout=60, check=False)

    def test_json(self, model: edgeq.Model) -> None:
        done = self.run(model, "--json", "--window", "1", frames=jpeg("red") * 3 + jpeg("blue"))
        assert (done.returncode, done.stderr) == (0, b"")
        lines = [json.loads(line) for line in done.stdout.splitlines()]
        summary = lines.pop()
        assert (summary["event"], summary["frames"]) == ("summary", len(lines))
        assert sum(label["frames"] for label in summary["labels"]) == len(lines)
        assert lines[-1]["label"] == "blue"
        assert lines[-1]["dropped"] + len(lines) == 4
        assert set(lines[-1]) >= {"event", "time", "predictions", "times_ms", "frames_per_second", "temperature_c"}

    def test_events(self, model: edgeq.Model) -> None:
        done = self.run(model, "--json", "--events", frames=jpeg("red") * 30)
        assert [json.loads(line)["event"] for line in done.stdout.splitlines()] == ["label", "summary"]
        text = self.run(model, frames=jpeg("red") * 30).stdout.decode()
        assert text.count("\n") == 1
        assert text.rstrip().endswith("red")
        assert self.run(model, "--events", frames=b"").returncode == 2

    def test_nothing_to_see(self, model: edgeq.Model) -> None:
        done = self.run(model, frames=b"no pictures at all")
        assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")

    def test_ctrl_c(self, model: edgeq.Model) -> None:
        command = [sys.executable, "-m", "edgeq", "watch", "-", "--model", str(model.path)]
        with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
            assert process.stdin
            assert process.stdout
            process.stdin.write(jpeg("red") * 3)
            process.stdin.flush()
            assert b"red" in process.stdout.readline()
            process.send_signal(2)
            assert process.wait(20) == 130


def test_the_live_line_fits(model: edgeq.Model) -> None:
    from edgeq.report.watching import live_line

    seen = next(watch_function(Frames([jpeg("red")]), model))
    assert isinstance(seen, Observed)
    assert live_line(seen, 200).startswith("100.0%  red  ") or "red" in live_line(seen, 200)
    assert len(live_line(seen, 20)) == 20
