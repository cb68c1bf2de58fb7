"""What verification says of files that are not fit for use, each for its true reason."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import colour_picture

from edgeq.conversion import FORMATS, convert
from edgeq.conversion.verification import verify
from edgeq.errors import ConversionError
from edgeq.execution.process import WorkerProcess
from edgeq.preprocessing import Preprocessing

keras = pytest.importorskip("keras")

COLOURS_INPUT = Preprocessing(32, 32, crop=1.0)
HINT = "activations are nearly zero"


def check(path: Path, io: str = "int8") -> None:
    """Verify a file as net_int8.tflite."""
    with WorkerProcess("the runtime") as worker:
        verify(worker, path, "net_int8.tflite", FORMATS["int8"], io, COLOURS_INPUT.pixels(colour_picture("red", 1)))


def problem_of(path: Path, io: str = "int8") -> str:
    """What is wrong with a file."""
    with pytest.raises(ConversionError) as caught:
        check(path, io)
    head, _, problem = str(caught.value).partition("the converted file fails its verification: ")
    assert head == "net_int8.tflite: "
    assert str(path) not in problem
    assert "\n" not in problem
    return problem


@pytest.fixture
def good(colour_models: Path) -> Path:
    return colour_models / "colours_int8.tflite"


def in_the_worker(code: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every Python process that is started from now on run some code first."""
    (folder / "sitecustomize.py").write_text(code)
    monkeypatch.setenv("PYTHONPATH", str(folder))


def test_a_good_file_passes(good: Path) -> None:
    check(good)


def test_what_is_wrong_with_the_file_is_the_message(good: Path, colour_models: Path) -> None:
    assert "its input is int8, but uint8 was asked for" in problem_of(good, "uint8")
    message = problem_of(colour_models / "colours_fp32.tflite")
    assert "not full-integer" in message
    assert HINT not in message


def test_another_exception_is_named_with_its_message(
    good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_worker("import sys\nsys.modules['PIL'] = None\n", tmp_path, monkeypatch)
    message = problem_of(good)
    assert "ModuleNotFoundError" in message
    assert "PIL" in message
    assert HINT not in message


@pytest.mark.parametrize(
    ("code", "words"),
    [
        ("import os; os.kill(os.getpid(), 9)", ["was killed", "signal 9", "memory"]),
        ("import os; os.kill(os.getpid(), 11)", ["signal 11", "SIGSEGV"]),
        ("import os; os._exit(7)", ["exit code 7"]),
    ],
    ids=["killed", "segmentation-fault", "exit"],
)
def test_a_process_that_ended_is_said_to_have(
    code: str, words: list[str], good: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    in_the_worker(code, tmp_path, monkeypatch)
    message = problem_of(good)
    assert all(word in message for word in words)
    assert HINT not in message


def test_a_runtime_that_aborts(tmp_path: Path) -> None:
    """Two terms that cancel out: their sum's scale is too small for the kernel of ADD, which aborts."""
    layers = keras.layers
    image = keras.Input((32, 32, 3))
    terms = [layers.Conv2D(8, 1, use_bias=False) for _ in range(2)]
    x = layers.GlobalAveragePooling2D()(layers.Add()([term(image) for term in terms]))
    model = keras.Model(image, layers.Dense(3, activation="softmax")(x), name="nothing")
    terms[1].set_weights([-terms[0].get_weights()[0]])
    model.save(tmp_path / "nothing.keras")
    out = tmp_path / "out"
    with pytest.raises(ConversionError) as caught:
        convert(tmp_path / "nothing.keras", "int8", out, count=10, normalize="-1..1", refine=False)
    assert "nothing_int8.tflite: the converted file fails its verification" in str(caught.value)
    assert "died of signal 6 (SIGABRT)" in str(caught.value)
    assert HINT in str(caught.value)
    assert list(out.iterdir()) == []


def test_pixels_are_those_of_the_image(good: Path) -> None:
    """A picture of another size is the caller's mistake, and said to be one."""
    with WorkerProcess() as worker, pytest.raises(ConversionError, match="32x32"):
        verify(worker, good, "net_int8.tflite", FORMATS["int8"], "int8", np.zeros((16, 16, 3), np.uint8))
