"""The worker program: real models in real processes, and how their ends are reported."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
import tracemalloc
import zlib
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, colour_picture

from edgeq.errors import EdgeqError, WorkerDiedError, how_it_ended
from edgeq.execution.backend import WorkerBackend
from edgeq.execution.frames import read_frame, write_frame
from edgeq.execution.process import WorkerProcess
from edgeq.runtime import Model, installed_runtimes


@pytest.fixture
def model(colour_models: Path) -> Model:
    return Model(colour_models / "colours_int8.tflite")


class TestFrames:
    @pytest.mark.parametrize("compressed", [False, True])
    @pytest.mark.parametrize("payload", [b"", b"\0" * 100_000, bytes(range(256))])
    def test_what_was_written_is_read(self, payload: bytes, compressed: bool) -> None:
        stream = BytesIO()
        for number in range(2):
            write_frame(stream, {"number": number, "text": "ä\n"}, payload, compressed)
        assert compressed <= (len(stream.getvalue()) < 100_000)
        stream.seek(0)
        for number in range(2):
            assert read_frame(stream) == ({"number": number, "text": "ä\n"}, payload)
        with pytest.raises(EOFError):
            read_frame(stream)

    def test_a_frame_that_was_cut_off_is_an_end(self) -> None:
        stream = BytesIO()
        write_frame(stream, {}, b"payload")
        with pytest.raises(EOFError):
            read_frame(BytesIO(stream.getvalue()[:-1]))

    @pytest.mark.parametrize(
        "content",
        [
            struct.pack("<II?", 2, 0xFFFFFFFF, False) + b"{}",
            struct.pack("<II?", 0xFFFFFFFF, 0, False),
            struct.pack("<II?", 2, 0, False) + b"[]",
            struct.pack("<II?", 2, 3, True) + b"{}abc",
            struct.pack("<II?", 1, 0, False) + b"\xff",
        ],
        ids=["4 GB of data", "4 GB of JSON", "a list", "no zlib", "no UTF-8"],
    )
    def test_what_is_no_frame_is_refused(self, content: bytes) -> None:
        with pytest.raises(ValueError, match=r"."):
            read_frame(BytesIO(content))

    def test_a_bomb_is_not_unpacked(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("edgeq.execution.frames.MOST_BYTES", 1 << 20)
        body = zlib.compress(bytes(2 << 20))
        with pytest.raises(ValueError, match="more than 1,048,576 bytes unpacked"):
            read_frame(BytesIO(struct.pack("<II?", 2, len(body), True) + b"{}" + body))

    def test_damaged_frames_end_in_a_value_error_or_an_end(self) -> None:
        """Ten thousand, of which most are not read: never another exception, and never gigabytes."""
        rng, stream = random.Random(0), BytesIO()
        write_frame(stream, {"outputs": [["int8", [1, 10]]], "runtime": "x"}, bytes(500), compressed=True)
        good, outcomes = stream.getvalue(), set()
        tracemalloc.start()
        for _ in range(10_000):
            content = bytearray(good)
            for _ in range(rng.randint(1, 4)):
                content[rng.randrange(len(content))] = rng.randrange(256)
            try:
                read_frame(BytesIO(bytes(content[: rng.choice((None, rng.randrange(len(content))))])))
                outcomes.add("read")
            except (ValueError, EOFError) as error:
                outcomes.add(type(error).__name__)
        assert {"read", "EOFError", "ValueError"} <= outcomes
        assert tracemalloc.get_traced_memory()[1] < 50e6
        tracemalloc.stop()


class TestRunning:
    @pytest.mark.slow
    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("runtime", installed_runtimes())
    def test_the_output_is_that_of_the_model_here(self, runtime: str, model: Model) -> None:
        reference = Model(model.path, kernels="reference")
        tensor = model.tensor(model.preprocessing.pixels(colour_picture("green", 1)))
        with WorkerBackend(model.path, runtime, kernels="reference") as backend:
            assert np.array_equal(backend.run(tensor), reference.invoke(tensor))
            assert backend.runtime.startswith(f"{runtime} ")
            assert len(backend.times_ms) == 1

    def test_threads_take_turns(self, model: Model) -> None:
        tensors = [model.tensor(model.preprocessing.pixels(colour_picture(name, 1))) for name in ("red", "blue")]
        expected = [model.invoke(tensor) for tensor in tensors]
        wrong: list[int] = []

        def work(backend: WorkerBackend, which: int) -> None:
            wrong.extend(1 for _ in range(30) if not np.array_equal(backend.run(tensors[which]), expected[which]))

        with WorkerBackend(model.path, model.runtime) as backend:
            threads = [threading.Thread(target=work, args=(backend, number % 2)) for number in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        assert not wrong

    def test_timing_any_model(self, model: Model) -> None:
        with WorkerBackend(model.path) as backend:
            loaded, turn = backend.open(cold=True), backend.time(0, at_least=5)
        assert loaded.runtime == model.runtime
        assert min(loaded.import_ms, loaded.load_ms, *turn.times_ms) > 0
        assert len(turn.times_ms) == 5
        assert turn.peak_rss_bytes is None or 10e6 < turn.peak_rss_bytes < 500e6

    def test_an_error_is_said_and_the_process_goes_on(self, model: Model, tmp_path: Path) -> None:
        damaged = tmp_path / "damaged.tflite"
        damaged.write_bytes(model.path.read_bytes()[:2000])
        with WorkerBackend(damaged) as backend:
            for _ in range(2):
                with pytest.raises(EdgeqError, match=r"damaged\.tflite"):
                    backend.open()

    def test_a_tensor_of_another_size_never_reaches_native_code(self, model: Model) -> None:
        with WorkerBackend(model.path) as backend:
            with pytest.raises(EdgeqError, match=r"colours_int8.tflite: running the model failed"):
                backend.run(np.zeros((1, 16, 16, 3), np.int8))
            assert backend.run(np.zeros((1, 32, 32, 3), np.int8)).shape == (1, 3)

    def test_modules_in_the_users_folder_are_not_the_standard_librarys(
        self, model: Model, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        if sys.version_info < (3, 11):
            pytest.skip("Python 3.10 always looks in the current folder")
        (tmp_path / "queue.py").write_text("raise SystemExit(9)")
        monkeypatch.chdir(tmp_path)
        with WorkerBackend(model.path) as backend:
            assert backend.open().runtime == model.runtime


def test_it_starts_without_numpy() -> None:
    """What is loaded for every model counts in each process's memory and start-up."""
    code = "import edgeq.execution.worker, sys; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], cwd=ROOT, timeout=60, check=False).returncode == 0


class TestEnds:
    @pytest.mark.parametrize(
        ("code", "words"),
        [
            (-signal.SIGKILL, ["was killed", "signal 9", "memory"]),
            (-signal.SIGSEGV, ["died of signal 11", "SIGSEGV"]),
            (-signal.SIGABRT, ["died of signal 6", "SIGABRT"]),
            (-60, ["died of signal 60"]),
            (0, ["exit code 0"]),
            (3, ["exit code 3"]),
        ],
    )
    def test_one_sentence(self, code: int, words: list[str]) -> None:
        assert all(word in how_it_ended(code) for word in words)

    def test_a_process_that_dies_in_the_middle(self, model: Model) -> None:
        with WorkerBackend(model.path, model.runtime) as backend:
            backend.open()
            timer = threading.Timer(0.3, backend._process._process.send_signal, [signal.SIGSEGV])
            timer.start()
            with pytest.raises(WorkerDiedError, match=r"SIGSEGV") as caught:
                backend.time(60)
            with pytest.raises(WorkerDiedError):
                backend.run(np.zeros((1, 32, 32, 3), np.int8))
        assert caught.value.code == -signal.SIGSEGV
        assert str(caught.value).startswith(f"{model.path}: its process under {model.runtime} died")

    def test_it_ends_with_whoever_started_it_even_in_the_middle_of_a_turn(self, model: Model) -> None:
        code = (
            "import sys, os, threading\nfrom edgeq.execution.backend import WorkerBackend\n"
            "backend = WorkerBackend(sys.argv[1])\nbackend.open()\nprint(backend._process._process.pid, flush=True)\n"
            "threading.Timer(0.5, os.kill, [os.getpid(), 9]).start()\nbackend.time(60)"
        )
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-c", code, model.path], env=environment, capture_output=True, timeout=30, check=False
        )
        assert done.returncode == -signal.SIGKILL
        deadline = time.monotonic() + 10
        while Path(f"/proc/{int(done.stdout)}").exists() and time.monotonic() < deadline:
            time.sleep(0.05)
        assert not Path(f"/proc/{int(done.stdout)}").exists()

    def test_calling_a_function(self) -> None:
        with WorkerProcess() as worker:
            answer, _ = worker.ask("call", function="edgeq.errors:one_line", arguments={"limit": 4}, payload=b"abc def")
            assert answer == {"result": "b..."}
            with pytest.raises(EdgeqError, match=r"ModuleNotFoundError: .*no_such_module"):
                worker.ask("call", function="edgeq.no_such_module:f", arguments={})
            with pytest.raises(EdgeqError, match="KeyError: 'nothing'"):
                worker.ask("nothing")
