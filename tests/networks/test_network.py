"""Building networks leaves the process as it was: Keras's session, the environment, the caller's settings."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT

from edgeq.errors import EdgeqError
from edgeq.networks import build_network, open_network

keras = pytest.importorskip("keras")


@pytest.fixture(scope="module")
def saved(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("saved") / "net.keras"
    keras.Sequential([keras.Input((8, 8, 3)), keras.layers.Flatten(), keras.layers.Dense(2)]).save(path)
    return path


@pytest.mark.parametrize("what", ["build", "open"])
def test_the_callers_keras_session_stays(what: str, saved: Path) -> None:
    number = int(keras.layers.Dense(1).name.rpartition("_")[2] or 0)
    before = keras.config.dtype_policy()
    keras.config.set_dtype_policy("mixed_float16")
    try:
        network = build_network(classes=4, weights="none") if what == "build" else open_network(saved)
        assert keras.config.dtype_policy().name == "mixed_float16"
    finally:
        keras.config.set_dtype_policy(before)
    assert keras.layers.Dense(1).name == f"dense_{number + 1}"
    assert {layer.compute_dtype for layer in network.keeps_alive.layers} == {"float32"}  # nor is the network touched


@pytest.mark.accept
def test_layers_are_numbered_from_the_start_whatever_was_built_before(saved: Path) -> None:
    def names() -> list[str]:
        return [
            layer.name
            for layer in build_network("mobilenet_v3_small", 32, 32, classes=4, weights="none").keeps_alive.layers
        ]

    first = names()
    keras.layers.Add()([keras.Input((1,)), keras.Input((1,))])
    open_network(saved)
    assert names() == first


def run(code: str, **environment: str) -> str:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", **environment},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("backend", [None, "jax"])
def test_the_environment_stays_and_keras_takes_tensorflow(backend: str | None) -> None:
    code = (
        "import os; from edgeq.networks.network import require_tensorflow; require_tensorflow(); "
        "import keras; print(os.environ.get('KERAS_BACKEND'), keras.backend.backend())"
    )
    assert run(code, **({} if backend is None else {"KERAS_BACKEND": backend})) == f"{backend} tensorflow"


def test_keras_on_another_backend_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """Which was imported before, and cannot be changed any more."""
    monkeypatch.setattr(keras.backend, "backend", lambda: "jax")
    with pytest.raises(EdgeqError, match=r"on jax; .*KERAS_BACKEND=tensorflow"):
        build_network(weights="none")
