"""The package as a whole: what importing costs, what it names, and the small tools that everything stands on."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import os
import pkgutil
import re
import subprocess
import sys
import threading
from pathlib import Path

import pytest

import edgeq as package
from edgeq.quiet import heard, quiet

ROOT = Path(__file__).resolve().parent.parent
MODULES = sorted(
    info.name
    for info in pkgutil.walk_packages(package.__path__, "edgeq.")
    if info.name != "edgeq.__main__"  # it runs the command line
)
DEVICE = [
    *(
        "edgeq",
        "edgeq.classification",
        "edgeq.cli",
        "edgeq.cli.infer",
        "edgeq.cli.compare",
        "edgeq.errors",
        "edgeq.files",
        "edgeq.tflite.flatbuffer",
    ),
    *(
        "edgeq.images",
        "edgeq.tflite.metadata",
        "edgeq.preprocessing",
        "edgeq.quantization",
        "edgeq.quiet",
        "edgeq.runtime",
    ),
    *("edgeq.inference", "edgeq.inference.classify", "edgeq.report.predictions"),
    *("edgeq.benchmarking", "edgeq.cli.bench", "edgeq.report.benchmark"),
    *("edgeq.device.agent", "edgeq.execution.backend", "edgeq.execution.machine", "edgeq.execution.worker"),
    *("edgeq.runtime.backends", "edgeq.runtime.model", "edgeq.tflite.archive", "edgeq.tflite.checking"),
    *("edgeq.runtime.admission", "edgeq.runtime.trial", "edgeq.runtime.trial_process", "edgeq.tflite.known"),
    *("edgeq.tflite.output_kind", "edgeq.tflite.repair"),
    *("edgeq.cli.watch", "edgeq.watching", "edgeq.collecting"),
    *("edgeq.device.photos", "edgeq.device.user_service", "edgeq.photo_folders"),
]
HOST_PACKAGES = {"tensorflow", "keras", "flatbuffers", "h5py", "scipy", "matplotlib", "jinja2", "pandas"} | {
    *("dask", "distributed", "fsspec")
}
"""Unavailable on a device, or too slow to import there."""
USES_DASK = {"edgeq.cluster.dask_runner", "edgeq.cluster.dask_worker"}
"""Modules that import Dask, and are imported only with --scheduler."""

# Importing


def imported_by(code: str, *arguments: object) -> set[str]:
    """The top-level packages that a process imports while it runs some code."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-c", code, *map(str, arguments)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return {line.split("|")[-1].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}


def test_the_device_half_is_all_there() -> None:
    assert set(DEVICE) <= {"edgeq", *MODULES}


@pytest.mark.parametrize("module", DEVICE)
def test_the_device_half_imports_no_desk_package(module) -> None:
    assert importlib.util.find_spec(module) is not None
    imported = imported_by(f"import {module}")
    assert "edgeq" in imported
    assert not imported & HOST_PACKAGES


def test_no_module_imports_tensorflow_until_it_is_used() -> None:
    imported = imported_by("import " + ", ".join(sorted(set(MODULES) - USES_DASK)))
    assert not imported & {"tensorflow", "keras", "matplotlib", "jinja2", "h5py", "dask", "distributed", "fsspec"}


@pytest.mark.parametrize("module", ["edgeq", "edgeq.cli"])
def test_help_and_version_need_not_even_numpy(module) -> None:
    assert "numpy" not in imported_by(f"import {module}")


def test_infer_imports_no_desk_package(colour_models, photos) -> None:
    code = "import sys; sys.argv[0] = 'edgeq'; import runpy; runpy.run_module('edgeq', run_name='__main__')"
    arguments = ("infer", photos / "red", "--model", colour_models / "colours_int8.tflite")
    imported = imported_by(code, *arguments)
    assert {"numpy", "PIL", "edgeq"} <= imported
    assert not imported & HOST_PACKAGES


def test_compare_imports_no_desk_package(colour_models, photos) -> None:
    code = "import sys; sys.argv[0] = 'edgeq'; import runpy; runpy.run_module('edgeq', run_name='__main__')"
    pair = (colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite")
    imported = imported_by(code, "compare", *pair, "--data", photos)
    assert {"numpy", "PIL", "edgeq"} <= imported
    assert not imported & HOST_PACKAGES


@pytest.mark.parametrize(
    "command",
    [("inspect", "INT8"), ("refine", "FP32", "INT8"), ("compare", "FP32", "INT8", "--data", "PHOTOS", "--layers")],
    ids=lambda command: command[0],
)
def test_what_a_device_lacks_is_said_in_one_line(command, colour_models, photos, tmp_path, edgeq) -> None:
    """What looks into a file takes packages that a device has not."""
    names = {"FP32": colour_models / "colours_fp32.tflite", "INT8": colour_models / "colours_int8.tflite"}
    (tmp_path / "sitecustomize.py").write_text("import sys\nsys.modules['flatbuffers'] = None\n")
    path = os.pathsep.join((str(tmp_path), str(ROOT)))
    done = edgeq(
        *(names.get(word, photos if word == "PHOTOS" else word) for word in command),
        env={"PYTHONPATH": path},
        cwd=tmp_path,
    )
    assert (done.code, done.out) == (2, "")
    assert done.err.startswith("Error: reading the graph of a .tflite file needs ai-edge-litert (pip install ")


# Names


@pytest.mark.parametrize("module", ["edgeq", *MODULES])
def test_every_module_has_a_docstring(module) -> None:
    spec = importlib.util.find_spec(module)
    assert spec is not None
    assert spec.origin is not None
    docstring = ast.get_docstring(ast.parse(Path(spec.origin).read_text(encoding="utf-8")))
    assert docstring
    assert docstring.splitlines()[0].endswith((".", ":", "?"))


def sorting_key(name: str) -> tuple[int, str]:
    """Constants, then classes, then functions, each in order: isort's way, which ruff checks too."""
    kind = 0 if name.isupper() else 1 if name[0].isupper() else 2
    return kind, name


@pytest.mark.parametrize("module", ["edgeq", *MODULES])
def test_all_names_exist_and_are_sorted(module) -> None:
    loaded = importlib.import_module(module)
    names = list(loaded.__all__)
    assert names == sorted(set(names), key=sorting_key)
    for name in names:
        assert getattr(loaded, name) is not None


def test_the_packages_names_are_those_of_their_homes() -> None:
    from edgeq.comparison import Comparison, compare
    from edgeq.conversion import convert
    from edgeq.runtime import Model

    assert package.Model is Model
    assert package.Comparison is Comparison
    assert package.compare is compare
    assert package.convert is convert
    assert set(dir(package)) >= set(package.__all__)
    missing = "no_such_name"
    with pytest.raises(AttributeError, match=missing):
        getattr(package, missing)


def test_star_import_gives_all_names() -> None:
    names: dict[str, object] = {}
    exec("from edgeq import *", names)
    assert set(package.__all__) <= set(names)


def test_version_is_one() -> None:
    assert re.fullmatch(r"\d+\.\d+\.\d+", package.__version__)


def test_type_information_is_shipped() -> None:
    """Without the marker, type checkers ignore an installed package's annotations."""
    assert (Path(package.__path__[0]) / "py.typed").is_file()


# Silence


WHISPER = """
import os, sys
from edgeq.quiet import quiet

for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
    print("before", file=stream)
    with quiet():
        os.write(descriptor, b"native")
        print("python", file=stream)
    print("after", file=stream)
"""


def run_python(code: str) -> tuple[int, str, str]:
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout, done.stderr


def test_quiet_silences_native_code_and_python() -> None:
    """Into pipes, where Python holds its lines back: also what was printed before must not be lost."""
    assert run_python(WHISPER) == (0, "before\nafter\n", "before\nafter\n")


def test_verbose_is_not_quiet(capfd) -> None:
    with quiet(verbose=True):
        os.write(1, b"native\n")
    assert capfd.readouterr().out == "native\n"


def test_quiet_restores_when_its_block_raises(capfd) -> None:
    with pytest.raises(ZeroDivisionError), quiet():
        os.write(1, str(1 / 0).encode())
    os.write(1, b"heard\n")
    assert capfd.readouterr().out == "heard\n"


def test_quiet_within_quiet_stays_quiet(capfd) -> None:
    with quiet():
        with quiet():
            pass
        os.write(1, b"unheard\n")
    os.write(1, b"heard\n")
    assert capfd.readouterr().out == "heard\n"


def test_what_is_verbose_keeps_all_within_it_verbose(capfd) -> None:
    with quiet(verbose=True), quiet():
        os.write(1, b"heard\n")
    with quiet():
        os.write(1, b"unheard\n")
    assert capfd.readouterr().out == "heard\n"


def test_a_caller_s_function_is_heard_within_quiet(capfd) -> None:
    say = heard(lambda text: os.write(1, text.encode() + b"\n") - 1)
    with quiet():
        os.write(1, b"unheard\n")
        with quiet():
            assert say("heard") == 5
        with pytest.raises(ZeroDivisionError):
            heard(lambda: 1 / 0)()
        os.write(1, b"unheard\n")
    assert say("heard again") == 11
    assert capfd.readouterr() == ("heard\nheard again\n", "")


def open_descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_quiet_with_several_threads_restores_in_the_end(capfd) -> None:
    """The first to enter silences, the last to leave restores, in whatever order they came."""
    before = (os.fstat(1).st_ino, os.fstat(2).st_ino)
    descriptors = open_descriptors() if Path("/proc/self/fd").is_dir() else 0
    all_inside, failures = threading.Barrier(8), []

    def work() -> None:
        try:
            for _ in range(50):
                with quiet():
                    os.write(1, b"unheard\n")
            with quiet():
                all_inside.wait(timeout=30)
                os.write(2, b"unheard\n")
        except Exception as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(timeout=60)
    assert not failures
    assert (os.fstat(1).st_ino, os.fstat(2).st_ino) == before
    if descriptors:
        assert open_descriptors() == descriptors
    os.write(1, b"heard\n")
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("heard\n", "")


def test_quiet_that_fails_silences_nothing() -> None:
    """Where no more files can be opened: neither what comes after, nor the next time."""
    code = """
import os, resource
from edgeq.quiet import quiet

used = len(os.listdir("/proc/self/fd")) - 1
for more in range(3):
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + more, used + 10))
    try:
        with quiet():
            raise SystemExit("was quiet")
    except OSError:
        os.write(1, b"heard\\n")
resource.setrlimit(resource.RLIMIT_NOFILE, (used + 10, used + 10))
with quiet():
    os.write(1, b"unheard\\n")
os.write(1, b"heard\\n")
"""
    assert run_python(code) == (0, "heard\n" * 4, "")


def test_quiet_restores_where_the_stream_was_closed_inside() -> None:
    code = """
import os, sys
from edgeq.quiet import quiet

try:
    with quiet():
        sys.stdout = open(os.devnull, "w")
        sys.stdout.close()
except ValueError:
    pass
os.write(1, b"heard\\n")
"""
    assert run_python(code)[1] == "heard\n"


@pytest.mark.parametrize(
    "closed", ["sys.stdout = None", "sys.stderr = None", "os.close(1)", "os.close(2)", "os.close(0)"]
)
def test_quiet_without_standard_streams(closed) -> None:
    """As a daemon has none."""
    code = ["import os, sys", "from edgeq.quiet import quiet", closed, *["with quiet():", "    pass"] * 2]
    assert run_python("\n".join(code)) == (0, "", "")
