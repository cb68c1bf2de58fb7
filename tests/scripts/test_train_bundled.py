"""scripts/train-bundled: the whole recipe in a quick version, killed on the way and continued."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from edgeq.networks import build_network
from edgeq.networks.bundled import bundled_networks

pytest.importorskip("tensorflow")

ROOT = Path(__file__).resolve().parents[2]
FIRST, SECOND = "cifar10_mobilenet_v2_0.5_os8", "cifar10_mobilenet_v2_0.5"
DEADLINE = 1800  # seconds; far more than on idle cores


def start(shared: Path, state: Path, log: Path) -> subprocess.Popen[bytes]:
    command = [sys.executable, ROOT / "scripts" / "train-bundled", "--from-scratch", "--quick", "--limit", "128"]
    environment = {
        **os.environ,
        "KERAS_HOME": str(shared / "weights" / "keras_home"),
        "PYTHONPATH": str(ROOT),
        "PYTHONUNBUFFERED": "1",
    }
    with log.open("wb") as file:
        return subprocess.Popen(
            [
                *map(str, command),
                "--data",
                str(shared / "data" / "cifar10"),
                "--save-every",
                "0",
                "--out",
                str(state),
                "--state",
                str(state),
            ],
            env=environment,
            stdout=file,
            stderr=subprocess.STDOUT,
        )


@pytest.mark.accept
def test_it_continues_after_a_kill_and_writes_networks_that_load(shared: Path, tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs PyTorch: .venv/bin/pip install torch")
    state, killed_log, log = tmp_path / "state", tmp_path / "killed.log", tmp_path / "log"
    process = start(shared, state, killed_log)
    deadline = time.monotonic() + DEADLINE
    while not (state / f"{FIRST}.state.pt").exists():
        assert process.poll() is None, killed_log.read_text()
        assert time.monotonic() < deadline, killed_log.read_text()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (state / f"{SECOND}.state.pt").exists()

    process = start(shared, state, log)
    assert process.wait(DEADLINE) == 0, log.read_text()
    printed = log.read_text()
    assert f"{FIRST}: continues after" in printed
    assert "teacher 1/" not in printed  # finished before
    assert f"{FIRST} 1/" not in printed

    history = torch.load(state / f"{FIRST}.state.pt", weights_only=True)["history"]
    assert len(history) == 3 * 4  # phases, steps of a pass
    for name in (FIRST, SECOND):
        card = json.loads((state / f"{name}.card.json").read_text())
        assert card["trained_on"].startswith("128 training pictures of CIFAR-10")
        assert card["recipe"]["teacher"]["alpha"] == 1
        assert (state / f"{name}.weights.h5").stat().st_size < 2_000_000


def test_the_shipped_cards_say_how_the_networks_were_trained() -> None:
    networks = bundled_networks()
    assert [network.name for network in networks] == [SECOND, FIRST]
    assert sum(network.weights.stat().st_size for network in networks) <= 4_000_000
    built = build_network("mobilenet_v2", 32, 32, output_stride=8, weights="bundled")
    assert built.parent["weights"] == FIRST
