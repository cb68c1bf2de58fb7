"""Measuring real models in real processes."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from conftest import ROOT, Finished

from edgeq.benchmarking import Benchmark, bench
from edgeq.benchmarking.turns import _percentile
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.machine import Machine, read_machine
from edgeq.report.benchmark import benchmark_lines, fleet_lines
from edgeq.runtime import installed_runtimes

RUNTIME = installed_runtimes()[0]


@pytest.fixture(scope="module")
def measured(colour_models: Path) -> Benchmark:
    models = [str(colour_models / f"colours_{name}.tflite") for name in ("fp32", "int8")]
    return bench(models, runtimes=[RUNTIME], threads=[1], seconds=0.2)


def test_each_way_is_measured(measured: Benchmark) -> None:
    ways = {(Path(m.model).name, m.threads, m.kernels) for m in measured.measurements}
    assert {("colours_fp32.tflite", 1, "built-in"), ("colours_int8.tflite", 1, "built-in")} <= ways
    assert len(ways) == len(measured.measurements)
    assert measured.failures == ()


def test_the_numbers_make_sense(measured: Benchmark) -> None:
    for m in measured.measurements:
        assert 0 < m.min_ms <= m.median_ms <= m.p90_ms <= m.p99_ms
        assert m.images_per_s == pytest.approx(1000 / m.median_ms)
        assert min(m.import_ms, m.load_ms, m.first_ms) > 0
        assert m.runs >= 3 * measured.rounds
        assert m.size_bytes == Path(m.model).stat().st_size
        assert m.peak_rss_bytes is None or 10e6 < m.peak_rss_bytes < 500e6  # not that of this very process


def test_json_and_back(measured: Benchmark) -> None:
    assert Benchmark.from_json(json.loads(json.dumps(measured.to_json()))) == measured


@pytest.mark.parametrize("width", [80, 120])
def test_the_table_fits(measured: Benchmark, width: int) -> None:
    lines = benchmark_lines(measured, width)
    assert max(map(len, lines)) <= width
    assert not any("…" in line for line in lines)
    assert any(line.startswith("kernels   threads  median") and line.endswith("ratio") for line in lines)


def test_a_fleets_table_has_the_fastest_way_of_each_model_on_each_device(measured: Benchmark) -> None:
    lines = fleet_lines({"pi@kitchen": measured, "pi@attic": measured}, 100)
    assert [line.split()[:2] for line in lines[1:]] == [
        [device, f"colours_{name}.tflite"] for device in ("pi@kitchen", "pi@attic") for name in ("fp32", "int8")
    ]
    best = min(m.median_ms for m in measured.measurements if m.model.endswith("int8.tflite"))
    assert f"{best:.2f}" in lines[2]


def test_what_a_runtime_refuses_is_told_and_the_rest_goes_on(colour_models: Path, tmp_path: Path) -> None:
    good, bad = colour_models / "colours_int8.tflite", tmp_path / "bad.tflite"
    bad.write_bytes(good.read_bytes()[:2000])
    result = bench([good, bad], runtimes=[RUNTIME], threads=[1], seconds=0.1)
    assert {Path(m.model) for m in result.measurements} == {good}
    assert {failure.model for failure in result.failures} == {str(bad)}
    assert not any("\n" in failure.reason for failure in result.failures)
    assert any("could not be measured" in line for line in benchmark_lines(result, 80))


def test_a_model_that_fails_when_it_runs(shared: Path) -> None:
    path = shared / "models" / "coral" / "model_invoking_error.tflite"
    with pytest.raises(EdgeqError, match="model_invoking_error"):
        bench(path, runtimes=[RUNTIME], threads=[1], seconds=0.1)


def test_no_such_model(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such model file"):
        bench([tmp_path / "none.tflite"])


@pytest.mark.parametrize(("share", "expected"), [(50, 2), (90, 4), (99, 4), (100, 4), (25, 1), (1, 1)])
def test_percentiles(share: int, expected: float) -> None:
    assert _percentile([1.0, 2.0, 3.0, 4.0], share) == expected


def children(pid: int) -> list[int]:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@pytest.mark.accept
@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks /proc for processes")
@pytest.mark.parametrize(
    ("available_bytes", "at_most"),
    [(1_000_000, 1), (150e6, 2), (4 * 3.5 * 60e6, 3), (4 * 100 * 60e6, 6)],
    ids=["one-at-a-time", "two-if-they-fit", "as-many-as-fit", "all"],
)
def test_no_more_processes_live_than_memory_holds(
    available_bytes: float, at_most: int, colour_models: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three models in two configurations: the first model stays if two fit, the others share what is left."""
    machine = Machine(**{**read_machine().to_json(), "available_bytes": int(available_bytes)})
    monkeypatch.setattr("edgeq.benchmarking.benchmark._this_machine", lambda: machine)
    for module in ("benchmark", "turns"):  # where little memory is left, each round starts processes again
        monkeypatch.setattr(f"edgeq.benchmarking.{module}.ROUNDS", 3)
    models = [colour_models / f"colours_{name}.tflite" for name in ("fp32", "int8", "fp16")]
    before, alive, steps = set(children(os.getpid())), [], []

    def progress(stage: str, done: int, total: int) -> None:
        steps.append((stage, done, total))
        alive.append(len(set(children(os.getpid())) - before))

    result = bench(models, runtimes=[RUNTIME], threads=[1], seconds=0.05, progress=progress)
    assert max(alive) == at_most
    assert len(set(children(os.getpid())) - before) == 0
    assert steps == [("Measuring", done, 24) for done in range(25)]
    assert [Path(m.model) for m in result.measurements] == sorted(
        (Path(m.model) for m in result.measurements), key=models.index
    )
    assert {(Path(m.model), m.kernels) for m in result.measurements} >= {(model, "built-in") for model in models}
    assert all(m.runs >= 3 * result.rounds for m in result.measurements)
    assert all(m.peak_rss_bytes is None or 10e6 < m.peak_rss_bytes < 500e6 for m in result.measurements)


def test_after_a_conversion_in_the_same_process(colour_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """tflite-runtime does not work beside tensorflow, but what is measured runs in processes of its own."""
    if "tflite-runtime" not in read_machine().runtimes:
        pytest.skip("no tflite-runtime")
    monkeypatch.setitem(sys.modules, "tensorflow", ModuleType("tensorflow"))
    result = bench(colour_models / "colours_int8.tflite", runtimes=["tflite-runtime"], threads=[1], seconds=0.05)
    assert {m.runtime.split()[0] for m in result.measurements} == {"tflite-runtime"}
    assert "tflite-runtime" in result.before.runtimes


def test_one_path_is_one_model(colour_models: Path) -> None:
    result = bench(str(colour_models / "colours_int8.tflite"), runtimes=[RUNTIME], threads=[1], seconds=0.05)
    assert {Path(m.model).name for m in result.measurements} == {"colours_int8.tflite"}


INTERRUPTED = """
import os, sys, threading, time
from pathlib import Path
from edgeq.benchmarking import bench

def progress(stage, done, total):
    if done == 3:
        os.kill(os.getpid(), 2)

try:
    bench(sys.argv[1], runtimes=[sys.argv[2]], seconds=9, progress=progress)
except KeyboardInterrupt:
    print("interrupted", Path(f"/proc/{os.getpid()}/task/{os.getpid()}/children").read_text().split())
"""


def test_a_plain_script_that_is_interrupted_has_no_processes_left(colour_models: Path) -> None:
    command = [sys.executable, "-c", INTERRUPTED, str(colour_models / "colours_int8.tflite"), RUNTIME]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode, done.stdout) == (0, "interrupted []\n"), done.stderr


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="asks /proc for processes")
@pytest.mark.parametrize("kind", [signal.SIGINT, signal.SIGTERM, signal.SIGKILL])
def test_nothing_is_left_of_a_benchmark_that_was_stopped(kind: signal.Signals, colour_models: Path) -> None:
    command = [sys.executable, "-m", "edgeq", "bench", str(colour_models / "colours_int8.tflite"), "--seconds", "60"]
    process = subprocess.Popen(
        [*command, "--runtime", RUNTIME],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 30
    while not (workers := children(process.pid)) and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(1)
    process.send_signal(kind)
    process.wait(timeout=30)
    while any(Path(f"/proc/{worker}").exists() for worker in workers) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert workers
    assert not any(Path(f"/proc/{worker}").exists() for worker in workers)


@pytest.mark.parametrize("seconds", ["inf", "nan", "0"])
def test_a_time_that_never_ends_is_refused(seconds: str, colour_models: Path, edgeq: Callable[..., Finished]) -> None:
    done = edgeq("bench", colour_models / "colours_int8.tflite", "--seconds", seconds)
    assert (done.code, done.out) == (2, "")
    assert seconds in done.err
