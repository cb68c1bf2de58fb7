"""Device and host end to end without a board: the agent runs on this machine, behind a stand-in for ssh."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, colour_picture

from edgeq.benchmarking import bench, bench_devices
from edgeq.comparison import compare
from edgeq.comparison.across_backends import compare_backends
from edgeq.device.backend import DeviceBackend
from edgeq.device.setup import connected
from edgeq.device.wheels import requirements
from edgeq.errors import ConnectionLostError, DeviceError, InputError
from edgeq.inference import classify_all
from edgeq.runtime import Model

HOST = "pi@kitchen"
CLIENT = """#!/bin/sh
case "$*" in *unreachable*) echo no route to it >&2; exit 255;; esac
for last; do :; done
export XDG_DATA_HOME={home}
PATH={python}:/usr/bin:/bin exec sh -c "$last"
"""


@pytest.fixture(scope="module")
def ssh(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What EDGEQ_SSH names: it runs the remote command here, with a home of its own where all packages are in place."""
    folder = tmp_path_factory.mktemp("loopback")
    home = folder / "edgeq"
    (home / "packages").mkdir(parents=True)
    wanted = [*requirements(sys.version_info[:2]), "click>=8.1,<9"]
    (home / "installed.json").write_text(json.dumps({"packages": {"wanted": wanted, "files": []}}))
    client = folder / "ssh"
    client.write_text(CLIENT.format(home=folder, python=Path(sys.executable).parent))
    client.chmod(0o755)
    return client


@pytest.fixture
def host(ssh: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("EDGEQ_SSH", str(ssh))
    return HOST


@pytest.fixture
def model(colour_models: Path) -> Model:
    return Model(colour_models / "colours_int8.tflite")


def descendants(pid: int) -> list[int]:
    """Children of a process, of all its threads, and theirs."""
    found: list[int] = []
    with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # one that ended just now
        for task in Path(f"/proc/{pid}/task").iterdir():
            for child in (task / "children").read_text().split():
                found += [int(child), *descendants(int(child))]
    return found


def test_tensors_and_images(host: str, model: Model, tmp_path: Path) -> None:
    picture = tmp_path / "red.jpg"
    colour_picture("red", 1).save(picture)
    tensor = model.tensor(model.preprocessing.pixels(picture))
    with connected(host) as device:
        backend = DeviceBackend(device, model.path, kernels="reference")
        expected = Model(model.path, kernels="reference").invoke(tensor)
        assert np.array_equal(backend.run(tensor), expected)
        output, times_ms = backend.run_image(picture, model.preprocessing)
        assert np.array_equal(output, expected)
        assert set(times_ms) == {"decode", "preprocess", "invoke"}
        assert (backend.name, backend.kernels, len(backend.times_ms)) == (HOST, "reference", 2)
    (classified,) = classify_all(picture, model, on=host, send_images=True)
    assert classified.predictions[0].label == "red"
    assert classified.device == HOST


def test_a_model_that_crashes_there_is_said_to_and_the_device_goes_on(host: str, model: Model) -> None:
    tensor = np.zeros((1, 32, 32, 3), np.int8)
    with connected(host) as device:
        backend = DeviceBackend(device, model.path)
        expected = backend.run(tensor)
        (agent,) = [pid for pid in descendants(os.getpid()) if "exec(sys.stdin" in command_line(pid)]
        (worker,) = descendants(agent)
        threading.Timer(0.3, os.kill, [worker, signal.SIGSEGV]).start()
        with pytest.raises(DeviceError, match="SIGSEGV") as caught:
            backend.time(60)
        assert str(caught.value).startswith(f"{HOST}: {model.path}: its process died of signal 11")
        assert np.array_equal(backend.run(tensor), expected)
        backend.close()
        assert descendants(agent) == []


def command_line(pid: int) -> str:
    return Path(f"/proc/{pid}/cmdline").read_text()


def test_bench(host: str, colour_models: Path) -> None:
    models = [colour_models / f"colours_{name}.tflite" for name in ("fp32", "int8")]
    found = bench(models, threads=[1], runtimes=["ai-edge-litert"], seconds=0.05, on=host)
    assert {m.model for m in found.measurements} == set(map(str, models))
    assert found.failures == ()
    assert all(m.peak_rss_bytes is None or 10e6 < m.peak_rss_bytes < 500e6 for m in found.measurements)


def test_bench_says_what_failed_by_the_names_here(host: str, colour_models: Path, tmp_path: Path) -> None:
    damaged = tmp_path / "damaged.tflite"
    damaged.write_bytes((colour_models / "colours_int8.tflite").read_bytes()[:2000])
    good = colour_models / "colours_int8.tflite"
    found = bench([good, damaged], threads=[1], runtimes=["ai-edge-litert"], seconds=0.05, on=host)
    assert {m.model for m in found.measurements} == {str(good)}
    assert {f.model for f in found.failures} == {str(damaged)}
    assert all(str(damaged) in f.reason for f in found.failures)
    with pytest.raises(InputError, match="no such model file"):
        bench(tmp_path / "none.tflite", on=host)


def test_a_fleet_with_an_unreachable_board(host: str, colour_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.device.device._WAITS_S", (0.1,))
    model = colour_models / "colours_int8.tflite"
    outcomes = bench_devices(
        model, [host, "unreachable", "pi@attic"], threads=[1], runtimes=["ai-edge-litert"], seconds=0.05
    )
    assert [outcome.device for outcome in outcomes] == [host, "unreachable", "pi@attic"]
    assert [outcome.result is not None for outcome in outcomes] == [True, False, True]
    assert isinstance(outcomes[1].error, ConnectionLostError)
    with pytest.raises(ConnectionLostError, match="unreachable"):
        bench(model, on="unreachable")


def test_one_model_here_and_there(host: str, model: Model, photos: Path) -> None:
    found = compare_backends(model.path, photos, on=[host, "unreachable"])
    assert [(b.name, b.kernels) for b in found.backends] == [
        ("here", "reference"),
        ("here", "default"),
        (HOST, "reference"),
        (HOST, "default"),
    ]
    assert found.backends[2].differing_values == 0
    (failure,) = found.errors
    assert "unreachable" in failure
    assert [place["name"] for place in found.to_json()["places"]] == ["here", "here", HOST, HOST]


def test_a_candidate_there_and_its_reference_here(host: str, colour_models: Path, photos: Path) -> None:
    pair = [colour_models / f"colours_{name}.tflite" for name in ("fp32", "int8")]
    here, there = (compare(pair[0], pair[1], photos, on=backend) for backend in (None, host))
    assert there.candidate.runtime == f"{here.candidate.runtime} on {HOST}"
    assert there.reference.runtime == here.reference.runtime
    assert there.candidate.latency_ms > 0
    assert (there.images, there.agreement) == (here.images, here.agreement)


INTERRUPTED = """
import os, sys, time
from pathlib import Path
from edgeq.benchmarking import bench_devices

def children():
    return "".join(task.read_text() for task in Path(f"/proc/{os.getpid()}/task").glob("*/children"))

try:
    bench_devices(sys.argv[1], sys.argv[2:], seconds=600)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    deadline = time.monotonic() + 5
    while children() and time.monotonic() < deadline:
        time.sleep(0.1)
    print(children())
"""


@pytest.mark.sampled(1)
@pytest.mark.parametrize("hosts", [[HOST], [HOST, "pi@attic"]], ids=["one", "two"])
def test_a_plain_script_that_is_interrupted_has_no_connection_left(
    hosts: list[str], ssh: Path, colour_models: Path
) -> None:
    model = colour_models / "colours_int8.tflite"
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_SSH": str(ssh)}
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, model, *hosts], env=environment, stdout=subprocess.PIPE, text=True
    )
    seen: set[int] = set()
    deadline = time.monotonic() + 40
    begun: float | None = None
    while process.poll() is None and time.monotonic() < deadline:
        seen |= set(descendants(process.pid))
        if begun is None and len(seen) >= 2 * len(hosts):  # an agent and a worker each
            begun = time.monotonic()
        if begun is not None and time.monotonic() > begun + 2:
            process.send_signal(signal.SIGINT)
            begun = deadline
        time.sleep(0.1)
    out, _ = process.communicate(timeout=10)
    assert out == "interrupted\n\n"
    assert len(seen) >= 2 * len(hosts)
    deadline = time.monotonic() + 5  # the agent ends when its standard input does
    while (left := [pid for pid in seen if Path(f"/proc/{pid}").exists()]) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert left == []
