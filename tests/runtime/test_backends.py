"""Which runtime is taken, what stands in a runtime's way, and interpreters from each."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
import types
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import InputError, ModelError, RuntimeUnavailableError
from edgeq.runtime import RUNTIMES, Model, backends, installed_runtimes, runtime_version
from edgeq.runtime.backends import choose_runtime, make_interpreter

ROOT = Path(__file__).resolve().parent.parent.parent
HAS = {name: importlib.util.find_spec(module.partition(".")[0]) is not None for name, module in RUNTIMES.items()}
NUMPY_1 = np.__version__.startswith("1.")


@pytest.fixture(autouse=True)
def no_environment(monkeypatch) -> None:
    monkeypatch.delenv("EDGEQ_RUNTIME", raising=False)


@pytest.fixture
def without_tensorflow(monkeypatch) -> None:
    """As in a process that has not imported it, as other tests in this one have."""
    monkeypatch.delitem(sys.modules, "tensorflow", raising=False)


def python(code: str, *arguments: object, env: dict[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT), **(env or {})},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


# Which runtime


def test_the_fastest_comes_first() -> None:
    assert list(RUNTIMES) == ["ai-edge-litert", "tflite-runtime", "tensorflow"]


@pytest.mark.usefixtures("without_tensorflow")
def test_installed_runtimes_are_those_that_can_be_used() -> None:
    usable = [name for name in RUNTIMES if HAS[name] and (name != "tflite-runtime" or NUMPY_1)]
    assert installed_runtimes() == usable
    assert usable, "the tests need a TFLite runtime"
    assert choose_runtime() == choose_runtime("auto") == usable[0]


def test_asking_for_the_installed_runtimes_imports_none() -> None:
    done = python(
        "import sys, json\n"
        "from edgeq.runtime import installed_runtimes\n"
        "installed = installed_runtimes()\n"
        "packages = {'tensorflow', 'ai_edge_litert', 'tflite_runtime'}\n"
        "print(json.dumps([installed, sorted(packages & set(sys.modules))]))"
    )
    assert done.returncode == 0, done.stderr
    installed, imported = json.loads(done.stdout)
    assert installed
    assert imported == []


@pytest.mark.parametrize("name", RUNTIMES)
@pytest.mark.usefixtures("without_tensorflow")
def test_environment_and_argument_choose(monkeypatch, name) -> None:
    if name not in installed_runtimes():
        pytest.skip(f"{name} cannot be used here")
    assert choose_runtime(name) == name
    monkeypatch.setenv("EDGEQ_RUNTIME", name)
    assert choose_runtime() == name
    assert choose_runtime("auto") == installed_runtimes()[0]  # an argument goes before the environment
    monkeypatch.setenv("EDGEQ_RUNTIME", "no such runtime")
    assert choose_runtime(name) == name


@pytest.mark.parametrize("empty", ["", "auto"])
def test_empty_environment_is_no_choice(monkeypatch, empty) -> None:
    monkeypatch.setenv("EDGEQ_RUNTIME", empty)
    assert choose_runtime() == installed_runtimes()[0]


@pytest.mark.parametrize("name", ["onnxruntime", "TENSORFLOW", "tflite_runtime", " "])
def test_unknown_names_are_input_errors(monkeypatch, name) -> None:
    for argument, environment in ((name, ""), (None, name)):
        monkeypatch.setenv("EDGEQ_RUNTIME", environment)
        with pytest.raises(InputError) as caught:
            choose_runtime(argument)
        assert repr(name) in str(caught.value)
        assert all(known in str(caught.value) for known in ("auto", *RUNTIMES))


@pytest.mark.sampled(2)
@pytest.mark.parametrize("name", RUNTIMES)
def test_the_model_runs_on_the_runtime_of_the_environment(colour_models, photos, name) -> None:
    if not HAS[name] or (name == "tflite-runtime" and not NUMPY_1):
        pytest.skip(f"{name} cannot be used here")
    done = python(
        "import sys\n"
        "from edgeq.runtime import RUNTIMES, Model\n"
        "model = Model(sys.argv[1])\n"
        "model.classify(sys.argv[2])\n"
        "print(model.runtime, *[name for name, module in RUNTIMES.items() if module in sys.modules])",
        colour_models / "colours_int8.tflite",
        photos / "red/00.jpg",
        env={"EDGEQ_RUNTIME": name},
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split() == [name, name]  # and no other was imported
    assert done.stderr == ""  # they greet on standard error, and warn of what does not concern anyone


# Obstacles


@pytest.mark.parametrize("version", ["2.0.0", "2.3.1", "10.1"])
@pytest.mark.usefixtures("without_tensorflow")
def test_tflite_runtime_needs_numpy_1(monkeypatch, version) -> None:
    """With NumPy 2 it imports, and dies in its first interpreter."""
    if not HAS["tflite-runtime"]:
        pytest.skip("tflite-runtime is not installed")
    monkeypatch.setattr(np, "__version__", version)
    assert "tflite-runtime" not in installed_runtimes()
    with pytest.raises(RuntimeUnavailableError) as caught:
        choose_runtime("tflite-runtime")
    assert f"numpy {version} is installed" in str(caught.value)
    assert "numpy<2" in str(caught.value)


@pytest.mark.usefixtures("without_tensorflow")
def test_tflite_runtime_does_not_follow_tensorflow(monkeypatch) -> None:
    """In one process with it, it fails with "vector::reserve"."""
    if not (HAS["tflite-runtime"] and NUMPY_1):
        pytest.skip("tflite-runtime cannot be used here")
    assert "tflite-runtime" in installed_runtimes()
    tensorflow = types.ModuleType("tensorflow")
    tensorflow.__spec__ = importlib.util.find_spec("tensorflow") or importlib.util.find_spec("json")
    monkeypatch.setitem(sys.modules, "tensorflow", tensorflow)
    assert "tflite-runtime" not in installed_runtimes()
    with pytest.raises(RuntimeUnavailableError, match="has imported tensorflow"):
        choose_runtime("tflite-runtime")


def test_a_runtime_that_is_not_installed_says_how_to_get_it(monkeypatch) -> None:
    monkeypatch.setattr(backends, "RUNTIMES", {"ai-edge-litert": "no_such_package.interpreter"})
    assert installed_runtimes() == []
    with pytest.raises(RuntimeUnavailableError, match="pip install ai-edge-litert"):
        choose_runtime("ai-edge-litert")


def test_no_runtime_at_all_names_all_reasons(monkeypatch) -> None:
    monkeypatch.setattr(backends, "RUNTIMES", {name: f"no_such_{number}.x" for number, name in enumerate(RUNTIMES)})
    with pytest.raises(RuntimeUnavailableError) as caught:
        choose_runtime()
    assert str(caught.value).startswith("no TFLite runtime can be used: ")
    assert all(f"{name} is not installed (pip install {name})" in str(caught.value) for name in RUNTIMES)


def test_a_broken_installation_is_no_traceback(monkeypatch, tmp_path, colour_models) -> None:
    (tmp_path / "broken_runtime").mkdir()
    (tmp_path / "broken_runtime/__init__.py").touch()
    (tmp_path / "broken_runtime/interpreter.py").write_text('raise ImportError("libbroken.so: wrong ELF class")')
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(backends, "RUNTIMES", {"tensorflow": "broken_runtime.interpreter"})
    with pytest.raises(
        RuntimeUnavailableError, match=r"runtime tensorflow cannot be imported \(libbroken.so: wrong ELF class\)"
    ):
        Model(colour_models / "colours_int8.tflite")


def test_runtime_version() -> None:
    for name in RUNTIMES:
        if HAS[name]:
            try:
                expected = importlib.metadata.version(name)
            except importlib.metadata.PackageNotFoundError:
                expected = "unknown"
            assert runtime_version(name) == expected
    assert runtime_version("surely-not-installed") == "unknown"


# Interpreters


def test_the_file_is_looked_at_before_any_runtime_is(monkeypatch, tmp_path) -> None:
    """A wrong path is the likelier mistake, and told even where there is no runtime."""
    monkeypatch.setattr(backends, "RUNTIMES", {})
    with pytest.raises(ModelError, match="no such model file"):
        make_interpreter(tmp_path / "missing.tflite")


def test_an_interpreter_is_ready_to_run(colour_models) -> None:
    name, interpreter = make_interpreter(colour_models / "colours_int8.tflite", threads=2)
    assert name == installed_runtimes()[0]
    assert interpreter.get_input_details()[0]["shape"].tolist() == [1, 32, 32, 3]
    interpreter.invoke()  # tensors are allocated


def test_reference_kernels_come_without_a_delegate(colour_models) -> None:
    """XNNPACK's kernels give other bytes on other machines."""
    operators = {}
    for kernels in ("default", "reference"):
        _, interpreter = make_interpreter(colour_models / "colours_int8.tflite", kernels=kernels)
        operators[kernels] = [details["op_name"] for details in interpreter._get_ops_details()]
    assert "DELEGATE" not in operators["reference"]
    assert operators["reference"][-1] == "SOFTMAX"
    if installed_runtimes()[0] == "ai-edge-litert":
        assert "DELEGATE" in operators["default"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_a_model_error(tmp_path) -> None:
    path = tmp_path / "secret.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3")
    path.chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        make_interpreter(path)


def test_a_file_name_that_is_no_utf8(colour_models, tmp_path) -> None:
    """Such names come from old memory cards; Python has them with surrogates, which native code refuses."""
    path = tmp_path / os.fsdecode(b"caf\xe9.tflite")
    path.write_bytes((colour_models / "colours_int8.tflite").read_bytes())
    assert make_interpreter(path)[0] == installed_runtimes()[0]
