"""A file that was never opened on this machine is tried in another process, and then remembered."""

from __future__ import annotations

import importlib.util
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Finished

import edgeq as package
from edgeq.errors import ModelError
from edgeq.execution.backend import WorkerBackend
from edgeq.python_process import start_python
from edgeq.runtime import Model, TensorModel, installed_runtimes, trial
from edgeq.runtime.admission import admit, check_unchanged, trusting
from edgeq.tflite.checking import check_file
from edgeq.tflite.known import known_files

sys.path.append(str(ROOT / "tests" / "tflite"))
from small_models import Graph, Op, T, endless_loop, far_write, much_memory, pack

EdgeqCommand = Callable[..., Finished]
RUNTIME = installed_runtimes()[0]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """An empty cache folder, as on a new machine."""
    home = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(home))
    known_files.cache_clear()
    yield home
    known_files.cache_clear()


@pytest.fixture
def trials(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that were tried, in this test."""
    tried: list[str] = []
    real = trial.try_model

    def count(path: Any, *arguments: Any) -> None:
        tried.append(str(path))
        real(path, *arguments)

    monkeypatch.setattr(trial, "try_model", count)
    return tried


@pytest.fixture
def model(colour_models: Path, tmp_path: Path) -> Path:
    """A good model that this machine does not know."""
    path = tmp_path / "m.tflite"
    shutil.copy(colour_models / "colours_int8.tflite", path)
    return path


def forget() -> None:
    """Forget what is known in this process, but not what is on disk."""
    known_files.cache_clear()


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


class TestTrials:
    def test_a_crash_is_one_sentence(self, tmp_path: Path) -> None:
        """This file passes every check of its tables, and makes tflite-runtime write where it may not."""
        path = write(tmp_path / "far.tflite", far_write())
        if importlib.util.find_spec("tflite_runtime") is None:
            pytest.skip("tflite-runtime is not installed")
        with pytest.raises(ModelError, match=r"the runtime died of signal 11 \(SIGSEGV\)") as caught:
            admit(path, "tflite-runtime")
        assert str(caught.value).startswith(f"{path}: ")
        with pytest.raises(ModelError, match="SIGSEGV"):  # it is not remembered as good
            admit(path, "tflite-runtime")

    def test_a_model_that_never_ends(self, tmp_path: Path) -> None:
        start = time.monotonic()
        with pytest.raises(ModelError, match=r"the runtime took more than \d+ s"):
            TensorModel(write(tmp_path / "endless.tflite", endless_loop()))
        assert time.monotonic() - start < 60  # 2 s of processor time here, more on a busy or slow machine

    def test_a_model_that_wants_all_memory(self, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"m\.tflite: .*(memory|signal|cannot load)"):
            TensorModel(write(tmp_path / "m.tflite", much_memory()))

    def test_what_a_runtime_cannot_load_is_said_as_ever(self, tmp_path: Path) -> None:
        tensors = [T((1, 2)), T((3, 4), data=1), T((5,))]
        content = pack(Graph(tensors, [Op("BATCH_MATMUL", [0, 1], [2])], [0], [2]))
        with pytest.raises(ModelError, match=f"m.tflite: {RUNTIME} cannot load this model"):
            TensorModel(write(tmp_path / "m.tflite", content))

    def test_noise_that_a_kernel_refuses_is_no_fault(self, tmp_path: Path) -> None:
        """GATHER with an index that the noise gets wrong runs on real data."""
        tensors = [T((1,), "float32", [7]), T((4,), "int32"), T((4,))]
        content = pack(Graph(tensors, [Op("GATHER", [0, 1], [2])], [1], [2]))
        opened = TensorModel(write(tmp_path / "m.tflite", content))
        (found,) = opened.invoke([np.zeros(4, np.int32)])
        assert found.tolist() == [7, 7, 7, 7]

    @pytest.mark.parametrize(
        ("name", "message"),
        [
            ("fake-op", "operator 0 is the custom operator 'fake-op'"),
            ("edgetpu-custom-op", "for the Edge TPU"),
        ],
    )
    def test_custom_operators(self, name: str, message: str, tmp_path: Path) -> None:
        content = pack(Graph([T((1,)), T((1,))], [Op("CUSTOM", [0], [1], custom=name)], [0], [1]))
        path = write(tmp_path / "m.tflite", content)
        check_file(path)  # inspect shows it
        with pytest.raises(ModelError, match=message):
            TensorModel(path)
        with pytest.raises(ModelError, match="cannot load this model"):  # the runtime's own word
            TensorModel(path, trust=True)

    def test_a_process_without_the_runtime(self, model: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
        (tmp_path / "ai_edge_litert.py").write_text("raise ImportError('broken')")
        monkeypatch.setattr(trial, "start_python", partial(start_python, paths=[str(tmp_path), str(ROOT)]))
        monkeypatch.setattr(trial, "_servers", {})
        with pytest.raises(ModelError, match="ai-edge-litert cannot be imported"):
            admit(model, "ai-edge-litert")


class TestMemory:
    def test_a_file_is_tried_once(self, model: Path, trials: list[str]) -> None:
        for _ in range(2):
            Model(model)
        forget()
        Model(model)
        assert trials == [str(model)]

    def test_so_is_a_copy(self, model: Path, trials: list[str], tmp_path: Path) -> None:
        Model(model)
        forget()
        shutil.copy(model, tmp_path / "copy.tflite")
        Model(tmp_path / "copy.tflite")
        assert trials == [str(model)]

    def test_a_changed_file_is_tried_again(self, model: Path, colour_models: Path, trials: list[str]) -> None:
        Model(model)
        shutil.copy(colour_models / "colours_fp32.tflite", model)
        Model(model)
        assert len(trials) == 2

    @pytest.mark.parametrize("change", [{"threads": 2}, {"kernels": "reference"}])
    def test_other_threads_and_kernels_run_other_code(
        self, change: dict[str, Any], model: Path, trials: list[str]
    ) -> None:
        Model(model)
        Model(model, **change)
        assert len(trials) == 2

    @pytest.mark.parametrize("home", [os.devnull, "/proc/edgeq"])
    def test_without_a_home_it_is_tried_each_time(
        self, home: str, model: Path, trials: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("XDG_CACHE_HOME", home)
        for _ in range(2):
            forget()
            Model(model)
        assert len(trials) == 2

    def test_what_edgeq_wrote_is_known(
        self, colour_network: Path, trials: list[str], tmp_path: Path, photos: Path
    ) -> None:
        made = package.convert(colour_network, formats=["int8"], out=tmp_path, calibration=photos, normalize="-1..1")
        forget()
        for file in made.models.values():
            Model(file.path)
        assert not trials

    def test_a_file_that_changes_while_it_is_opened(self, model: Path, colour_models: Path) -> None:
        identity = admit(model, RUNTIME)
        check_unchanged(model, identity)
        shutil.copy(colour_models / "colours_fp32.tflite", model)
        with pytest.raises(ModelError, match="was changed while edgeq opened it"):
            check_unchanged(model, identity)


class TestTrust:
    def test_in_python(self, model: Path, trials: list[str]) -> None:
        Model(model, trust=True)
        assert not trials
        forget()
        with trusting():
            TensorModel(model)
        assert not trials
        forget()
        Model(model)
        assert trials

    def test_damaged_tables_are_refused_all_the_same(self, model: Path) -> None:
        write(model, model.read_bytes()[:2000])
        with pytest.raises(ModelError, match="the file is damaged"):
            Model(model, trust=True)

    def test_on_the_command_line(self, tmp_path: Path, edgeq: EdgeqCommand) -> None:
        path = write(tmp_path / "far.tflite", far_write())
        np.savez(tmp_path / "x.npz", t2=np.array([1], np.float32))
        done = edgeq("infer", tmp_path / "x.npz", "--model", path, "--runtime", "tflite-runtime")
        if "is not installed" in done.err:
            pytest.skip("tflite-runtime cannot be used here")
        assert (done.code, done.out) == (2, "")
        assert done.err.startswith(f"Error: {path}: the runtime died of signal 11 (SIGSEGV) when edgeq tried this file")
        assert len(done.err.splitlines()) == 1
        trusted = edgeq("infer", tmp_path / "x.npz", "--model", path, "--runtime", "tflite-runtime", "--trust")
        assert trusted.code == -signal.SIGSEGV  # nothing stands between the model and this process any more


class TestCost:
    def test_a_known_file_costs_less_than_3_ms_and_starts_no_process(
        self, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        admit(model, RUNTIME)
        time.sleep(2.1)  # until the file's times tell whether it changed
        forget()
        admit(model, RUNTIME)
        monkeypatch.setattr(trial, "_start", None)
        monkeypatch.setattr("edgeq.files.sha256_of_file", None)
        monkeypatch.setattr("edgeq.tflite.checking._checked", None)
        times = []
        for _ in range(30):
            forget()
            start = time.perf_counter()
            admit(model, RUNTIME)
            times.append(time.perf_counter() - start)
        assert sorted(times)[10] < 0.003

    def test_the_command_imports_nothing_for_it(self, model: Path, photos: Path) -> None:
        code = "import sys; sys.argv[0] = 'edgeq'; import runpy; runpy.run_module('edgeq', run_name='__main__')"
        words = [sys.executable, "-X", "importtime", "-c", code, "infer", str(photos / "red/00.jpg"), "-m", str(model)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        said = []
        for pause_s in (2.1, 0, 0):  # then the file's times tell whether it changed
            done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=60, check=True)
            said.append(done.stderr)
            time.sleep(pause_s)
        assert "edgeq.runtime.trial" in said[0]
        for module in ("edgeq.runtime.trial", "edgeq.tflite.structure"):
            assert module not in said[2]

    def test_a_worker_starts_no_trial_of_its_own(self, model: Path, trials: list[str]) -> None:
        with WorkerBackend(model, RUNTIME) as backend:
            backend.open(cold=True)
            children = Path(f"/proc/{backend._process._process.pid}/task/{backend._process._process.pid}/children")
            assert children.read_text() == ""
        assert trials == [str(model)]
