"""What tests share: real pictures, and small real networks that are converted once a session."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import signal
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import emulated_pi
import numpy as np
import pytest
from command_server import CommandServer
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
SHARED = Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared"))
COLOURS = {"blue": (20, 40, 230), "green": (30, 210, 40), "red": (225, 30, 20)}
"""The classes of the colour network, in the order of its outputs, and a typical colour of each."""
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9") | {
    "no_proxy": "",
    "NO_PROXY": "",
}
"""Environment of a process in which a download fails at once: nothing listens on that port."""

BROWSER_SWITCHES = [
    *("--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"),
    *("--disable-background-networking", "--disable-component-update"),
]

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:  # as a shell starts what runs in the background
    # What the tests start would inherit it, and could not be interrupted.
    signal.signal(signal.SIGINT, signal.default_int_handler)


SLOW = (
    "device/test_pi.py",
    "cli/test_train.py",
    "training/test_train.py",
    "sweeping/test_sweep.py",
    "cli/test_convert.py",
    "networks/test_sizes.py",
    "networks/test_building.py",
    "conversion/test_convert.py",
    "networks/test_mobilenet_v3.py",
    "tensors/test_commands.py",
    "tensors/test_conversion.py",
    "tensors/test_device.py",
    "tensors/test_tensor_model.py",
    "test_main_job.py",
    "test_wheel.py",
    "conversion/test_sources.py",
    "networks/test_mobilenet_v2.py",
    "networks/test_bundled.py",
    "tflite/test_metadata_writer.py",
    "comparison/test_layers.py",
    "device/test_loopback.py",
    "device/test_service.py",
    "test_snippets.py",
    "benchmarking/test_bench.py",
    "cli/test_calibrate.py",
    "bundling/test_bundle.py",
    "report/test_page.py",
    "report/test_sweep.py",
    "watching/test_page.py",
    "cli/test_summary.py",
    "runtime/test_model.py",
    "training/test_phases.py",
    "cli/test_inspect.py",
    "training/test_fused.py",
    "networks/test_network.py",
    "refinement/test_refine.py",
    "graphs/test_running.py",
    "tflite/test_repair.py",
    "comparison/test_compare.py",
    "cluster/test_dask.py",
    "device/test_wheels.py",
    "inspection/test_targets.py",
    "training/test_transfer.py",
    "refinement/test_attention.py",
    "cli/test_compare.py",
    "networks/test_architecture.py",
    "calibration/test_synthesis.py",
    "device/test_footprint.py",
    "scripts/test_distillation.py",
    "networks/test_opening.py",
    "conversion/test_float_file.py",
    "device/test_faulty_boards.py",
    "networks/test_summarize.py",
    "conversion/test_mixed.py",
    "comparison/test_across_backends.py",
    "networks/test_saving.py",
    "conversion/test_verification.py",
    "refinement/test_files.py",
    "refinement/test_layers.py",
    "training/test_augmentation.py",
    "scripts/test_train_bundled.py",
)
"""The files that take most of the time, the longest first; ``--durations=0`` shows it."""
SLOW_PLACES = {ROOT / "tests" / name: place for place, name in enumerate(SLOW)}


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out the tests that are marked slow")


def pytest_xdist_auto_num_workers() -> int:
    """One process more than cores: tests wait for servers and for the processes that they start."""
    return (os.cpu_count() or 1) + 1


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Not even import the slow files for the quick tests: many of them import TensorFlow."""
    return True if config.getoption("quick") and collection_path in SLOW_PLACES else None


@pytest.hookimpl(tryfirst=True)  # before pytest leaves out what ``-m`` excludes
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark the tests that are slow, those that use photos and models that are not distributed, and further cases.

    The longest files come first, so that at the end no process works on one alone.
    """
    items.sort(key=lambda item: SLOW_PLACES.get(item.path, len(SLOW)))
    cases = Counter[str]()
    for item in items:
        if sampled := item.get_closest_marker("sampled"):
            test = item.nodeid.partition("[")[0]
            cases[test] += 1
            if cases[test] > sampled.args[0]:
                item.add_marker(pytest.mark.accept)
        if item.path in SLOW_PLACES:
            item.add_marker(pytest.mark.slow)
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.real_data)
    if config.getoption("quick"):
        slow = [item for item in items if item.get_closest_marker("slow")]
        config.hook.pytest_deselected(items=slow)
        items[:] = [item for item in items if not item.get_closest_marker("slow")]


@contextlib.contextmanager
def made_once(tmp_path_factory: pytest.TempPathFactory, name: str) -> Iterator[tuple[Path, bool]]:
    """A folder of that name that all processes of a run share, and whether it is there already.

    The first that asks makes it; the others wait until it has.
    """
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    with (base / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = base / f"{name}.done"
        yield base / name, done.exists()
        done.touch()


@dataclass(frozen=True)
class Finished:
    """A command that ended: its exit code and what it printed."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of real data and models that the developers have; tests that need it skip without it."""
    if not SHARED.is_dir():
        pytest.skip(f"no {SHARED} (real photos, weights and models)")
    return SHARED


def kept_between_runs() -> Path:
    """A folder of what takes long to make; below the home, or where others may not look in there, in /var/tmp."""
    home = Path.home()
    readable = all(parent.stat().st_mode & 0o001 for parent in (home, *home.parents))
    folder = home / ".cache" / "edgeq-tests" if readable else Path(f"/var/tmp/edgeq-tests-{os.getuid()}")
    folder.mkdir(parents=True, exist_ok=True)
    if folder.stat().st_uid != os.getuid():
        pytest.skip(f"{folder} belongs to another user")
    return folder


@contextlib.contextmanager
def making(name: str) -> Iterator[Path]:
    """The folder of that name among what is kept; other processes that test wait until it is made."""
    folder = kept_between_runs()
    with (folder / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder / name


def kept_pi(release: str) -> Path:
    """The folder of an emulated Raspberry Pi, whose Python is bin/python3; made once and kept between runs."""
    script = Path(emulated_pi.__file__).read_bytes()
    with making(f"pi-{release}-{hashlib.sha256(script).hexdigest()[:12]}") as folder:
        if not (folder / "bin" / "python3").exists():
            shutil.rmtree(folder, ignore_errors=True)
            try:
                emulated_pi.make_pi(folder, emulated_pi.RELEASES[release])
            except emulated_pi.CannotMakeError as error:
                shutil.rmtree(folder, ignore_errors=True)
                pytest.skip(f"an emulated Raspberry Pi cannot be made here ({error})")
    return folder


@pytest.fixture(scope="session")
def pi() -> Path:
    """An emulated Raspberry Pi with Python 3.11."""
    return kept_pi("bookworm")


_SERVERS: dict[bool, CommandServer] = {}


def run_command(
    *arguments: object,
    cwd: Path | None = None,
    env: dict[str, str] | None = None,
    stdin: bytes = b"",
    timeout: float = 300,
) -> Finished:
    """Run the command line in a separate process: a fork of a `CommandServer`'s process, where that is possible."""
    words, variables = [*map(str, arguments)], env or {}
    tensorflow = CommandServer.needs_tensorflow(words)
    if CommandServer.takes(variables):
        if tensorflow not in _SERVERS:
            _SERVERS[tensorflow] = CommandServer(tensorflow)
        return Finished(*_SERVERS[tensorflow].run(words, cwd, variables, stdin, timeout))
    done = subprocess.run(
        [sys.executable, "-m", "edgeq", *words],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": str(ROOT), **variables},
        input=stdin,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    return Finished(done.returncode, done.stdout.decode(), done.stderr.decode())


def pytest_sessionfinish() -> None:
    while _SERVERS:
        _SERVERS.popitem()[1].close()


@pytest.fixture(scope="session")
def edgeq() -> Callable[..., Finished]:
    """Run the command line in a separate process: ``edgeq("infer", "a.jpg", cwd=..., env={...}, stdin=b"")``."""
    return run_command


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Chromium without a window."""
    playwright = pytest.importorskip("playwright.sync_api", reason="no playwright (pip install 'edgeq[dev]')")
    program = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if program is None:
        pytest.skip("no Chromium on the PATH")
    with playwright.sync_playwright() as running:
        started = running.chromium.launch(executable_path=program, args=BROWSER_SWITCHES)
        yield started
        started.close()


@pytest.fixture
def keras_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder where Keras's weights are looked for, in this process, which has no network."""

    def refuse(*arguments: object, **keywords: object) -> NoReturn:
        raise OSError("no network in this test")

    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    monkeypatch.setattr(socket.socket, "connect", refuse)
    home = tmp_path_factory.mktemp("keras_home")
    monkeypatch.setenv("KERAS_HOME", str(home))
    folder = home / "models"
    folder.mkdir()
    return folder


def colour_picture(name: str, seed: int, side: int = 48) -> Image.Image:
    """A noisy picture of one of `COLOURS`."""
    rng = np.random.default_rng(seed)
    pixels = rng.normal(COLOURS[name], 25, (side, side, 3)).clip(0, 255).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.fixture(scope="session")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of 36 pictures, a sub-folder for each of `COLOURS`."""
    root = tmp_path_factory.mktemp("photos")
    for number, name in enumerate(COLOURS):
        (root / name).mkdir()
        for i in range(12):
            colour_picture(name, 100 * number + i).save(root / name / f"{i:02}.jpg", quality=95)
    return root


@pytest.fixture(scope="session")
def colour_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Keras model (.keras) of 32x32 pixels in [-1, 1] that tells blue, green and red apart.

    Its weights are set by hand: a depthwise average, a pointwise step that swaps the channels into
    alphabetical order, global average pooling and softmax; so its right answers are known.
    """
    import keras

    layers = keras.layers
    model = keras.Sequential(
        [
            keras.Input((32, 32, 3)),
            layers.DepthwiseConv2D(3, padding="same", use_bias=False),
            layers.Conv2D(3, 1, activation="relu6"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(3, activation="softmax"),
        ],
        name="colours",
    )
    swap = np.eye(3, dtype=np.float32)[::-1]  # RGB to blue, green, red
    model.layers[0].set_weights([np.full((3, 3, 3, 1), 1 / 9, np.float32)])
    model.layers[1].set_weights([swap.reshape(1, 1, 3, 3).copy(), np.ones(3, np.float32)])
    model.layers[3].set_weights([2 * np.eye(3, dtype=np.float32), np.zeros(3, np.float32)])
    path = tmp_path_factory.mktemp("networks") / "colours.keras"
    model.save(path)
    return path


@pytest.fixture(scope="session")
def colour_models(colour_network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the colour network's files in all formats: colours_fp32.tflite, colours_int8.tflite, ..."""
    from edgeq.calibration import choose_images
    from edgeq.conversion import FORMATS, convert_network
    from edgeq.networks import open_network
    from edgeq.preprocessing import Preprocessing

    out = tmp_path_factory.mktemp("models")
    preprocessing = Preprocessing(32, 32, crop=1.0)
    calibration = choose_images(photos, preprocessing, count=30)
    network = open_network(colour_network)
    convert_network(network, preprocessing, list(FORMATS), out, calibration=calibration, labels=tuple(COLOURS))
    return out


@pytest.fixture(scope="session")
def mobilenet_models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with mobilenet_v2_0.35_96_fp32.tflite and _int8.tflite: random weights, 10 classes."""
    from edgeq.calibration import choose_images, shipped_images
    from edgeq.conversion import convert_network
    from edgeq.networks import build_network
    from edgeq.preprocessing import Preprocessing

    with made_once(tmp_path_factory, "mobilenet") as (out, there):
        if not there:
            preprocessing = Preprocessing(96, 96, crop=1.0)
            calibration = choose_images(shipped_images(), preprocessing, count=12)
            network = build_network("mobilenet_v2", 96, 96, alpha=0.35, classes=10, weights="none")
            convert_network(network, preprocessing, ["int8"], out, calibration=calibration, refine=False)
    return out


@dataclass(frozen=True)
class IntegerPair:
    """A float file, the integer file that the converter made from it, unrefined, and the pictures it saw."""

    fp32: Path
    int8: Path
    pixels: list[np.ndarray]


@pytest.fixture(scope="session")
def blocks_network(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Keras model (.keras) of 32x32 pixels with all that pairing and refinement meet in a MobileNet.

    A strided convolution, linear bottlenecks, a residual sum, two branches of one shape that read one tensor,
    and a classifier whose six classes the bundled pictures fall into differently. Random weights.
    """
    import keras

    from edgeq.calibration import choose_images, shipped_images
    from edgeq.preprocessing import Preprocessing

    layers = keras.layers
    keras.utils.set_random_seed(3)
    options: dict[str, Any] = {
        "kernel_initializer": "he_normal",
        "bias_initializer": keras.initializers.RandomNormal(0, 0.2),
    }
    depthwise = {
        "depthwise_initializer": "he_normal",
        "bias_initializer": options["bias_initializer"],
        "padding": "same",
    }
    image = keras.Input((32, 32, 3))
    x = layers.Conv2D(8, 3, strides=2, padding="same", activation="relu6", **options)(image)
    x = layers.DepthwiseConv2D(3, activation="relu6", **depthwise)(x)
    bottleneck = layers.Conv2D(8, 1, **options)(x)
    x = layers.Conv2D(24, 1, activation="relu6", **options)(bottleneck)
    x = layers.DepthwiseConv2D(3, activation="relu6", **depthwise)(x)
    x = layers.Add()([bottleneck, layers.Conv2D(8, 1, **options)(x)])
    left = layers.Conv2D(8, 1, activation="relu", **options)(x)
    right = layers.Conv2D(8, 1, activation="relu", **options)(x)
    x = layers.Conv2D(24, 3, strides=2, activation="relu6", **options)(layers.Add()([left, right]))
    x = layers.GlobalAveragePooling2D()(x)
    model = keras.Model(image, layers.Dense(6, name="logits")(x))
    last = model.get_layer("logits")
    pictures = choose_images(shipped_images(), Preprocessing(32, 32, crop=1.0), count=40).pixels
    logits = model.predict(np.stack(pictures) / 127.5 - 1, verbose=0)
    kernel, bias = last.get_weights()
    last.set_weights([2 * kernel / logits.std(axis=0), 2 * (bias - logits.mean(axis=0)) / logits.std(axis=0)])
    path = tmp_path_factory.mktemp("networks") / "blocks.keras"
    keras.Model(image, layers.Softmax()(model.output)).save(path)
    return path


@pytest.fixture(scope="session")
def blocks(blocks_network: Path, tmp_path_factory: pytest.TempPathFactory) -> IntegerPair:
    """The files of that network, blocks_fp32.tflite and blocks_int8.tflite."""
    from edgeq.calibration import choose_images, shipped_images
    from edgeq.conversion import convert_network
    from edgeq.networks import open_network
    from edgeq.preprocessing import Preprocessing

    out = tmp_path_factory.mktemp("blocks")
    preprocessing = Preprocessing(32, 32, crop=1.0)
    calibration = choose_images(shipped_images(), preprocessing, count=40)
    network = open_network(blocks_network)
    labels = tuple("abcdef")
    convert_network(network, preprocessing, ["int8"], out, calibration=calibration, labels=labels, refine=False)
    return IntegerPair(out / "blocks_fp32.tflite", out / "blocks_int8.tflite", list(calibration.pixels))


@pytest.fixture(scope="session")
def coral_pair(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """MobileNetV2 with ImageNet's weights as our float file, and Coral's own integer file of the same weights."""
    from edgeq.conversion import convert_network
    from edgeq.networks import build_network
    from edgeq.preprocessing import Preprocessing

    with made_once(tmp_path_factory, "coral") as (out, there):
        if not there:
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("KERAS_HOME", str(shared / "weights" / "keras_home"))
                network = build_network("mobilenet_v2", 224, 224, weights="imagenet")
            convert_network(network, Preprocessing(224, 224), [], out)
    (path,) = out.glob("*_fp32.tflite")
    return path, shared / "models" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite"
