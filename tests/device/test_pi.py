"""From end to end against an emulated Raspberry Pi over a real sshd, as a user would type it."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, Finished, colour_picture

from edgeq.comparison.across_backends import compare_open_backends
from edgeq.device.backend import DeviceBackend
from edgeq.device.device import Device
from edgeq.device.setup import remove
from edgeq.errors import ConnectionLostError, DeviceError
from edgeq.execution.backend import WorkerBackend
from edgeq.images import Source
from edgeq.inference import classify_all
from edgeq.runtime import Model

from .conftest import Board, free_port, run, sessions

Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def ready(board: Board, wheels: Path) -> Board:
    """The board, set up by the command."""
    done = run(board, "device", "setup", board.host, "--wheels", wheels)
    assert (done.code, done.err) == (0, "")
    assert "Installed 4 packages" in done.out
    assert "Runtime: tflite-runtime 2.14.0" in done.out
    return board


@pytest.fixture
def there(ready: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board, for the library in this process, which soon connects again."""
    monkeypatch.setenv("EDGEQ_SSH", ready.ssh())
    monkeypatch.setattr("edgeq.device.device._WAITS_S", (0.1, 1.0, 5.0))
    return ready


@pytest.fixture(scope="module")
def photos_3(photos_20: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos_3")
    for photo in sorted(photos_20.iterdir())[:3]:
        shutil.copyfile(photo, folder / photo.name)
    return folder


def error_of(done: Finished) -> str:
    assert done.code == 2, (done.out, done.err)
    (line,) = done.err.splitlines()
    return line.removeprefix("Error: ")


class TestSetup:
    def test_again_it_does_nothing(self, ready: Board) -> None:
        before = {p: p.stat().st_mtime_ns for p in ready.home.rglob("*") if "__pycache__" not in str(p)}
        done = run(ready, "device", "setup", "kitchen", "--json")  # a name of ssh's configuration
        assert json.loads(done.out) == {"home": str(ready.home), "installed": []}
        assert {p: p.stat().st_mtime_ns for p in ready.home.rglob("*") if "__pycache__" not in str(p)} == before

    def test_info(self, ready: Board) -> None:
        found = json.loads(run(ready, "device", "info", ready.host, "--json").out)
        assert found["model"].startswith("Raspberry Pi 4 Model B")
        assert (found["architecture"], found["emulated_by"]) == ("aarch64", os.uname().machine)
        assert found["runtimes"] == {"tflite-runtime": "2.14.0"}
        assert found["features"] == ["asimd"]

    def test_no_root_and_nothing_outside_its_folder(self, ready: Board) -> None:
        owners = {path.owner() for path in ready.home.rglob("*")} if os.getuid() else set()
        assert owners <= {Path.home().owner()}
        assert {p.name for p in (ready.folder / "home").iterdir()} <= {"authorized_keys", ".local", ".cache"}


@pytest.mark.slow
class TestWatch:
    @pytest.mark.accept
    def test_a_video_there_after_a_setup_with_pyav(
        self, ready: Board, wheels: Path, colour_models: Path, tmp_path: Path
    ) -> None:
        av = pytest.importorskip("av")
        with av.open(tmp_path / "clip.mp4", "w") as container:
            stream = container.add_stream("mpeg4", rate=10)
            stream.width = stream.height = 64
            for number in range(20):
                picture = np.asarray(colour_picture("green", number, 64))
                container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
            container.mux(stream.encode())
        shutil.copyfile(tmp_path / "clip.mp4", ready.folder / "home" / "clip.mp4")
        watch = ["watch", "clip.mp4", "-m", colour_models / "colours_int8.tflite", "--on", ready.host, "--json"]
        watch += ["--kernels", "reference"]
        try:
            assert "edgeq device setup HOST --with camera" in error_of(run(ready, *watch))
            done = run(ready, "device", "setup", ready.host, "--with", "camera,web", "--wheels", wheels)
            assert (done.code, done.err) == (0, "")
            assert "Installed 6 packages" in done.out
            assert "already installed" in run(ready, "device", "setup", ready.host).out  # they stay
            done = run(ready, *watch)
        finally:
            (ready.folder / "home" / "clip.mp4").unlink()
        assert (done.code, done.err) == (0, "")
        *seen, summary = [json.loads(line) for line in done.out.splitlines()]
        assert {item["label"] for item in seen} == {"green"}
        assert summary["frames"] == len(seen) > 0

    def test_nothing_is_left_running(self, ready: Board, colour_models: Path) -> None:
        model = colour_models / "colours_int8.tflite"
        command = [sys.executable, "-m", "edgeq", "watch", ".", "-m", str(model), "--on", ready.host, "--web", "0"]
        command += ["--kernels", "reference"]
        environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_SSH": ready.ssh()}
        process = subprocess.Popen(command, env=environment, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL)
        watchdog = threading.Timer(60, process.kill)
        watchdog.start()
        assert process.stderr
        for line in process.stderr:
            if line.startswith(b"Page: "):
                break
        assert len(sessions(ready.process.pid)) >= 4  # sshd twice, agent, watcher
        process.send_signal(signal.SIGINT)
        assert process.wait(timeout=20) == 130
        watchdog.cancel()
        process.stderr.close()
        deadline = time.monotonic() + 20
        while sessions(ready.process.pid) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert sessions(ready.process.pid) == []


# An MJPEG stream of one frame, 20 times per second, as a network camera sends it.
STREAM = """
import sys, time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
frame = open(sys.argv[2], "rb").read()
class Stream(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        while True:
            self.wfile.write(b"--frame\\r\\nContent-Type: image/jpeg\\r\\n\\r\\n" + frame + b"\\r\\n")
            time.sleep(0.05)
    def log_message(self, *_):
        pass
ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Stream).serve_forever()
"""


@pytest.mark.accept
def test_a_stream_that_is_killed_and_restarted_three_times(ready: Board, colour_models: Path, tmp_path: Path) -> None:
    colour_picture("green", 1).save(tmp_path / "green.jpg", quality=95)
    port = free_port()
    serving = [sys.executable, "-c", STREAM, str(port), str(tmp_path / "green.jpg")]
    watching = [sys.executable, "-m", "edgeq", "watch", f"http://127.0.0.1:{port}/", "--on", ready.host, "--json"]
    watching += ["--model", str(colour_models / "colours_int8.tflite"), "--kernels", "reference"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_SSH": ready.ssh()}
    camera = subprocess.Popen(serving)
    process = subprocess.Popen(watching, env=environment, stdout=subprocess.PIPE, text=True)
    watchdog = threading.Timer(240, process.kill)
    watchdog.start()
    try:
        assert process.stdout
        items = map(json.loads, process.stdout)
        before = next(item for item in items if item["event"] != "interruption")
        for _ in range(3):
            camera.kill()
            camera.wait()
            lost = [next(item for item in items if item["event"] == "interruption") for _ in range(2)]
            assert "Connection refused" in lost[1]["reason"]
            assert [each["wait_s"] for each in lost] == [1.0, 2.0]  # frames in between: the shortest again
            camera = subprocess.Popen(serving)
            after = next(item for item in items if item["event"] != "interruption")
            assert (after["label"], after["frame"] > before["frame"]) == ("green", True)
            assert after["interruptions"] >= before["interruptions"] + 2
            before = after
        process.send_signal(signal.SIGINT)
        *_, summary = items
    finally:
        watchdog.cancel()
        for each in (camera, process):
            each.kill()
            each.wait()
    assert [label["label"] for label in summary["labels"]] == ["green"]


class TestInference:
    def test_20_photos_byte_for_byte_under_the_reference_kernels(
        self, there: Board, mobilenet_models: Path, photos_20: Path
    ) -> None:
        path = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
        local = Model(path, kernels="reference")
        with Device(there.host) as device:
            backend = DeviceBackend(device, path, threads=4, kernels="reference")
            for photo in sorted(photos_20.iterdir()):
                tensor = local.tensor(local.preprocessing.pixels(photo))
                expected = local.invoke(tensor)
                assert np.array_equal(backend.run(tensor), expected), photo
                assert np.array_equal(backend.run_image(photo, local.preprocessing)[0], expected), photo

    @pytest.mark.parametrize("options", [[], ["--images"]], ids=["tensors", "images"])
    def test_the_command(self, options: list[str], ready: Board, colour_models: Path, photos_20: Path) -> None:
        arguments = [
            "infer",
            photos_20,
            "-m",
            colour_models / "colours_int8.tflite",
            "--json",
            "--kernels",
            "reference",
        ]
        there = run(ready, *arguments, "--on", ready.host, *options)
        assert (there.code, there.err) == (0, "")
        lines = [json.loads(line) for line in there.out.splitlines()]
        assert {line.pop("device") for line in lines} == {ready.host}
        assert lines == [json.loads(line) for line in run(ready, *arguments).out.splitlines()]

    def test_from_python_whatever_an_image_comes_as(self, there: Board, colour_models: Path, photos_20: Path) -> None:
        path = colour_models / "colours_int8.tflite"
        photo = photos_20 / "00.jpg"
        images: list[Source] = [photo, photo.read_bytes(), np.asarray(colour_picture("red", 1))]
        here = list(classify_all(images, path, kernels="reference"))
        found = list(classify_all(images, path, kernels="reference", on=[there.host, "kitchen"]))
        assert [result.device for result in found] == [there.host] * 3 + ["kitchen"] * 3
        assert [result.predictions for result in found] == [result.predictions for result in here] * 2
        assert all(set(result.times_ms) == {"invoke"} for result in found)

    def test_names_that_a_shell_would_run(self, ready: Board, colour_models: Path, tmp_path: Path) -> None:
        evil = tmp_path / "$(touch pwned);`touch pwned` 'x\".jpg"
        colour_picture("red", 1).save(evil)
        model = colour_models / "colours_int8.tflite"
        done = run(ready, "infer", evil, "-m", model, "--on", ready.host, "--images", "--kernels", "reference")
        assert done.code == 0, done.err
        assert "red" in done.out
        assert not list(ready.folder.rglob("pwned"))

    def test_what_is_no_image_is_told_and_the_rest_goes_on(
        self, ready: Board, colour_models: Path, photos_20: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "bad.jpg").write_bytes(b"no")
        model = colour_models / "colours_int8.tflite"
        options = ["-m", model, "--on", ready.host, "--kernels", "reference", "--top", 1]
        done = run(ready, "infer", tmp_path / "bad.jpg", photos_20 / "00.jpg", *options)
        assert "not an image" in error_of(done)
        assert "blue" in done.out

    def test_files_are_sent_once(self, there: Board, colour_models: Path) -> None:
        seen: list[str] = []
        for _ in range(2):
            with Device(there.host, lambda stage, done, total: seen.append(stage)) as device:
                device.send(colour_models / "colours_int16x8.tflite")
        assert len(seen) == 1


class TestCompare:
    def test_desk_and_board(self, ready: Board, mobilenet_models: Path, photos_3: Path) -> None:
        model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
        done = run(ready, "compare", model, "--data", photos_3, "--on", ready.host, "--json", "-")
        assert (done.code, done.err) == (0, "")
        _, _, reference, default = json.loads(done.out)["places"]
        assert (reference["name"], reference["runtime"]) == (ready.host, "tflite-runtime 2.14.0")
        assert (reference["kernels"], reference["differing_values"]) == ("reference", 0)
        assert (default["kernels"], default["images"]) == ("default", 3)

    @pytest.mark.accept
    def test_a_candidate_there_and_its_reference_here(
        self, ready: Board, mobilenet_models: Path, photos_3: Path
    ) -> None:
        pair = [mobilenet_models / f"mobilenet_v2_0.35_96_{name}.tflite" for name in ("fp32", "int8")]
        here, there = (
            run(ready, "compare", *pair, "--data", photos_3, *on, "--json", "-") for on in ([], ["--on", ready.host])
        )
        assert (there.code, there.err) == (0, "")
        found, expected = json.loads(there.out), json.loads(here.out)
        assert found["candidate"]["runtime"] == f"tflite-runtime 2.14.0 on {ready.host}"
        assert found["reference"]["runtime"] == expected["reference"]["runtime"]
        assert found["candidate"]["latency_ms"] != expected["candidate"]["latency_ms"]
        assert found["images"] == 3
        assert 0 < found["l1_mean"] < 0.5
        assert f"{ready.host} is emulated, so the candidate's latency is not a board's" in found["notes"]

    @pytest.mark.accept
    def test_a_cut_connection_in_the_middle(self, there: Board, colour_models: Path, photos_20: Path) -> None:
        model = Model(colour_models / "colours_int8.tflite")

        def progress(stage: str, done: int, total: int) -> None:
            if (stage, done) in (("Comparing", 5), ("Comparing", 12)):
                there.cut()

        with Device(there.host) as device, WorkerBackend(model.path, kernels="reference") as here:
            backends = [here, DeviceBackend(device, model.path, kernels="reference")]
            found = compare_open_backends(model, photos_20, backends, progress)
        assert [(b.images, b.differing_values, b.error) for b in found.backends] == [(20, 0, None)] * 2

    @pytest.mark.accept
    def test_a_dead_board_does_not_stop_the_others(self, ready: Board, mobilenet_models: Path, photos_3: Path) -> None:
        model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
        hosts = ["--on", "pi@127.0.0.1:9", "--on", ready.host]
        done = run(ready, "compare", model, "--data", photos_3, *hosts, "--json", "-")
        assert "pi@127.0.0.1:9: cannot be reached" in error_of(done)
        assert [place["name"] for place in json.loads(done.out)["places"]] == ["here", "here", ready.host, ready.host]


@pytest.mark.accept
@pytest.mark.parametrize("page", ["README.md", "docs/tutorial.md"])
def test_the_commands_of_the_pages(
    page: str, ready: Board, mobilenet_models: Path, photos_3: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each command with ``pi@raspberrypi`` runs as it stands there, on small files with the names that it uses."""
    found = re.findall(r"^(?:\$ )?edgeq (.*pi@raspberrypi.*)$", (ROOT / page).read_text(), re.MULTILINE)
    assert len(found) == 4
    (tmp_path / "models").mkdir()
    for form in ("fp32", "int8"):
        model = mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite"
        for name in ("mobilenet_v2_1.0_224", "flowers"):
            shutil.copy(model, tmp_path / "models" / f"{name}_{form}.tflite")
    shutil.copytree(photos_3, tmp_path / "photos")
    for name in ("parrot.jpg", "rose.jpg"):
        shutil.copy(next(photos_3.iterdir()), tmp_path / name)
    rows = [f"photos/{path.name},0\n" for path in sorted(photos_3.iterdir())]
    (tmp_path / "flowers.validation.csv").write_text("file,class_index\n" + "".join(rows))
    monkeypatch.chdir(tmp_path)
    for command in found:
        words = command.replace("pi@raspberrypi", ready.host).split()
        done = run(ready, *words, *(("--seconds", 0.05, "--threads", 1) if words[0] == "bench" else ()))
        assert (done.code, done.err) == (0, ""), command


@pytest.mark.accept
def test_bench_on_a_fleet_with_a_dead_board(ready: Board, mobilenet_models: Path) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    options = ["--threads", 1, "--seconds", 0.1]
    done = run(ready, "bench", model, "--on", ready.host, "--on", "pi@127.0.0.1:9", "--on", "kitchen", *options)
    assert "pi@127.0.0.1:9: cannot be reached" in error_of(done)
    assert "mobilenet_v2_0.35_96_int8.tflite  " in done.out
    assert "a real board has other times" in " ".join(done.out.split())
    table = done.out[done.out.index("device ") :].splitlines()
    assert [line.split()[0] for line in table[1:]] == [ready.host, "kitchen"]


class TestFaults:
    def test_host_down(self, ready: Board) -> None:
        assert "cannot be reached" in error_of(run(ready, "device", "info", "pi@127.0.0.1:9"))

    def test_unknown_name(self, ready: Board) -> None:
        assert "resolve" in error_of(run(ready, "device", "info", "no-such-host.invalid"))

    def test_unknown_host_key(self, ready: Board) -> None:
        done = run(ready, "device", "info", ready.host, ssh=ready.ssh("-o", "UserKnownHostsFile=/dev/null"))
        assert error_of(done).endswith("its host key is not known yet; ssh to it once and check the key")

    def test_wrong_host_key(self, ready: Board, tmp_path: Path) -> None:
        other = (ready.folder / "other_key.pub").read_text().split()[:2]
        (tmp_path / "known").write_text(f"[127.0.0.1]:{ready.port} {' '.join(other)}\n")
        done = run(ready, "device", "info", ready.host, ssh=ready.ssh("-o", f"UserKnownHostsFile={tmp_path / 'known'}"))
        assert "host key" in error_of(done)

    def test_refused_key(self, ready: Board) -> None:
        ssh = ready.ssh("-i", str(ready.folder / "other_key"), "-o", "IdentityAgent=none").replace("ssh_config", "bare")
        bare = (ready.folder / "ssh_config").read_text().replace(f"IdentityFile {ready.folder / 'key'}", "")
        (ready.folder / "bare").write_text(bare)
        done = run(ready, "device", "info", ready.host, ssh=ssh)
        assert "refuses the login" in error_of(done)
        assert "ssh-copy-id" in done.err

    def test_no_python(self, ready: Board) -> None:
        folder = ready.folder / "no_python"
        folder.mkdir(exist_ok=True)
        (folder / "ssh").write_text("#!/bin/sh\necho 'python3: not found' >&2\nexit 127\n")
        (folder / "ssh").chmod(0o755)
        assert "has no python3" in error_of(run(ready, "device", "info", "pi", ssh=str(folder / "ssh")))

    def test_runtime_missing(self, ready: Board, colour_models: Path, photos_20: Path) -> None:
        model = colour_models / "colours_int8.tflite"
        options = ["-m", model, "--on", ready.host, "--runtime", "ai-edge-litert"]
        done = run(ready, "infer", photos_20 / "00.jpg", *options)
        assert "runtime ai-edge-litert is not installed" in error_of(done)

    def test_disk_full(self, small_board: Board, wheels: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        done = run(small_board, "device", "setup", small_board.host, "--wheels", wheels)
        assert "MB for the packages, and has" in error_of(done)
        large = tmp_path / "large.bin"
        large.write_bytes(np.random.default_rng(0).bytes(20_000_000))
        os.environ["EDGEQ_SSH"] = small_board.ssh()
        try:
            with (
                Device(small_board.host) as device,
                pytest.raises(DeviceError, match="its disk is full"),
            ):
                device.send(large)
        finally:
            del os.environ["EDGEQ_SSH"]

    def test_a_file_that_was_cut_off_goes_on_where_it_was(self, there: Board, tmp_path: Path) -> None:
        large = tmp_path / "large.bin"
        large.write_bytes(np.random.default_rng(1).bytes(3_000_000))
        offsets: list[int] = []

        def progress(stage: str, done: int, total: int) -> None:
            offsets.append(done)
            if len(offsets) == 4:
                there.cut()

        with Device(there.host, progress) as device:
            sha256 = device.send(large)
        assert (there.home / "files" / sha256).read_bytes() == large.read_bytes()
        assert offsets == sorted(set(offsets))

    def test_a_board_that_stays_away(self, there: Board, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgeq.device.device._WAITS_S", (0.1, 0.1))
        with Device(there.host) as device:
            monkeypatch.setenv("EDGEQ_SSH", there.ssh("-p", "9"))
            there.cut()
            with pytest.raises(ConnectionLostError, match="cannot be reached, or the connection was lost"):
                device.probe()


@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_running(kind: signal.Signals, ready: Board, mobilenet_models: Path) -> None:
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    options = ["--on", ready.host, "--threads", "1", "--seconds", "99"]
    command = [sys.executable, "-m", "edgeq", "bench", str(model), *options]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_SSH": ready.ssh()}
    process = subprocess.Popen(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    watchdog = threading.Timer(60, process.kill)
    watchdog.start()
    deadline = time.monotonic() + 50
    while len(sessions(ready.process.pid)) < 4 and time.monotonic() < deadline:  # sshd twice, agent, worker
        time.sleep(0.1)
    time.sleep(0.5)
    process.send_signal(kind)
    expected = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGKILL: -signal.SIGKILL}
    assert process.wait(timeout=20) == expected[kind]
    watchdog.cancel()
    while sessions(ready.process.pid) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert sessions(ready.process.pid) == []


def test_a_refused_model_is_called_by_its_name_here(there: Board, colour_models: Path, tmp_path: Path) -> None:
    cut_off = tmp_path / "cut off.tflite"
    cut_off.write_bytes((colour_models / "colours_int8.tflite").read_bytes()[:2000])
    with Device(there.host) as device, pytest.raises(DeviceError) as error:
        DeviceBackend(device, cut_off).run(np.zeros((1, 32, 32, 3), np.int8))
    assert str(error.value).startswith(f"{there.host}: {cut_off}: ")
    assert str(error.value).endswith("; the file is damaged: copy or convert it again")


def test_remove(there: Board) -> None:
    """The last, as it leaves a bare board."""
    done = run(there, "device", "remove", there.host)
    assert (done.code, done.err) == (0, "")
    assert "Deleted " in done.out
    assert not there.home.exists()
    with Device(there.host) as device:
        assert device.probe()["installed"] is None
        assert remove(device) == 0
