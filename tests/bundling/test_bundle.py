"""Bundles: their run.py says what edgeq says, without edgeq."""

from __future__ import annotations

import ast
import errno
import importlib
import io
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, colour_picture
from PIL import Image

from edgeq.bundling import bundle as make_bundle
from edgeq.bundling import run
from edgeq.classification import top_predictions
from edgeq.device.wheels import Platform, requirements
from edgeq.errors import InputError
from edgeq.runtime import Model

ROOT = Path(__file__).resolve().parent.parent.parent


@pytest.fixture(scope="module")
def bundle(colour_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "colours"
    make_bundle(colour_models / "colours_int8.tflite", folder)
    return folder


@pytest.fixture(scope="module")
def mobilenet_bundle(mobilenet_models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundles") / "mobilenet"
    make_bundle(mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite", folder)
    return folder


@pytest.fixture(scope="module")
def odd_pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What cameras and editors write: turned, transparent, grey, palette, CMYK, 16 bits, large, and narrow."""
    folder = tmp_path_factory.mktemp("odd")
    picture = colour_picture("red", 1, 64)
    half = Image.new("L", (64, 64), 128)
    exif = Image.Exif()
    exif[0x0112] = 6
    wide = picture.resize((96, 64))
    wide.save(folder / "turned.jpg", exif=exif)
    wide.resize((1536, 1024)).save(folder / "large.jpg")
    wide.resize((1536, 1024)).save(folder / "large_turned.jpg", exif=exif)
    wide.resize((1021, 703)).save(folder / "large_odd.jpg")
    picture.convert("RGBA").putalpha(half)
    transparent = picture.convert("RGBA")
    transparent.putalpha(half)
    transparent.save(folder / "transparent.png")
    picture.convert("L").save(folder / "grey.png")
    picture.convert("P").save(folder / "palette.gif")
    picture.convert("CMYK").save(folder / "cmyk.jpg")
    Image.fromarray(np.linspace(0, 65535, 64 * 64, dtype=np.uint16).reshape(64, 64)).save(folder / "deep.png")
    picture.resize((7, 300)).save(folder / "narrow.png")
    return folder


def start(bundle: Path, *arguments: object, python: object = sys.executable) -> subprocess.CompletedProcess[str]:
    """Run the bundle's run.py where there is no edgeq."""
    command = [python, *(["-I"] if python == sys.executable else []), bundle / "run.py", *arguments]
    return subprocess.run([*map(str, command)], capture_output=True, text=True, cwd="/", env={}, check=False)


def test_everything_is_there(bundle: Path) -> None:
    names = {path.name for path in bundle.iterdir()}
    assert names == {
        "README.md",
        "colours_int8.service",
        "colours_int8.tflite",
        "labels.txt",
        "model.json",
        "requirements.txt",
        "run.py",
        "selftest",
    }
    assert (bundle / "labels.txt").read_text() == "blue\ngreen\nred\n"
    assert len(list((bundle / "selftest").glob("*.png"))) == 3


def test_it_tests_itself_without_edgeq(bundle: Path) -> None:
    done = start(bundle, "--self-test")
    assert (done.returncode, done.stdout) == (0, "OK: 3 images, all outputs as expected\n")
    nodes = ast.walk(ast.parse((bundle / "run.py").read_text()))
    imported = {name.name for node in nodes if isinstance(node, ast.Import) for name in node.names}
    allowed = {
        "argparse",
        "importlib",
        "json",
        "os",
        "queue",
        "shutil",
        "socket",
        "subprocess",
        "sys",
        "threading",
        "time",
    }
    assert imported == {*allowed, "numpy"}


def test_it_says_what_edgeq_says(bundle: Path, odd_pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(run, "HERE", bundle)
    model, classifier = Model(bundle / "colours_int8.tflite"), run.Classifier()
    pictures = sorted(odd_pictures.iterdir())
    assert len(pictures) == 10
    for picture in pictures:
        expected = model.tensor(model.preprocessing.pixels(picture))
        assert np.array_equal(classifier.tensor(picture), expected), picture
    done = start(bundle, "--json", "--top", 2, *pictures)
    assert done.returncode == 0, done.stderr
    for line, picture in zip(done.stdout.splitlines(), pictures, strict=True):
        best = top_predictions(model.classify(picture), model.labels, 2)
        assert json.loads(line) == {"file": str(picture), "predictions": [vars(p) for p in best]}


def test_text_and_errors(bundle: Path, odd_pictures: Path, tmp_path: Path) -> None:
    (tmp_path / "bad.jpg").write_bytes(b"no image")
    done = start(bundle, tmp_path / "bad.jpg", odd_pictures / "grey.png")
    assert done.returncode == 2
    assert f"run.py: {tmp_path / 'bad.jpg'}: cannot be read" in done.stderr
    assert done.stdout.splitlines()[0] == str(odd_pictures / "grey.png")
    assert "%" in done.stdout
    assert start(bundle).returncode == 2


def test_a_wrong_output_is_found(bundle: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(bundle, tmp_path / "copy")
    expected = json.loads((copy / "selftest" / "expected.json").read_text())
    next(iter(expected.values()))[1] += 1
    (copy / "selftest" / "expected.json").write_text(json.dumps(expected))
    done = start(copy, "--self-test")
    assert done.returncode == 1
    assert done.stdout.startswith("FAILED: ")
    assert "1 of 3 outputs differ" in done.stdout


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", ["fp32", "fp16", "int16x8"])
def test_other_formats(name: str, colour_models: Path, tmp_path: Path) -> None:
    make_bundle(colour_models / f"colours_{name}.tflite", tmp_path / "b")
    assert start(tmp_path / "b", "--self-test").returncode == 0


@pytest.mark.accept
def test_on_the_pi_without_edgeq(bundle: Path, mobilenet_bundle: Path, odd_pictures: Path, pi: Path) -> None:
    """Under tflite-runtime on Arm: bit-identical to the host with the reference kernels, and an answer by default."""
    for folder in (bundle, mobilenet_bundle):
        done = start(folder, "--self-test", python=pi / "bin" / "python3")
        assert done.stdout == "OK: 3 images, all outputs as expected\n", done.stderr
    # The colour network's odd depthwise layer crashes tflite-runtime's default kernels under qemu.
    done = start(mobilenet_bundle, "--top", 1, odd_pictures / "turned.jpg", python=pi / "bin" / "python3")
    assert done.stdout.splitlines()[0] == str(odd_pictures / "turned.jpg"), done.stderr
    assert "%" in done.stdout


def test_zip(bundle: Path, colour_models: Path, tmp_path: Path) -> None:
    target = tmp_path / "new" / "colours.zip"
    made = make_bundle(colour_models / "colours_int8.tflite", target)
    first = target.read_bytes()
    make_bundle(colour_models / "colours_int8.tflite", target)
    assert target.read_bytes() == first
    with zipfile.ZipFile(target) as archive:
        archive.extractall(tmp_path)
    assert {p.relative_to(tmp_path / "colours").as_posix() for p in (tmp_path / "colours").rglob("*.*")} == set(
        made.files
    )
    assert start(tmp_path / "colours", "--self-test").returncode == 0
    assert [p.name for p in target.parent.iterdir()] == ["colours.zip"]


def test_an_older_bundle_is_replaced_and_nothing_else(colour_models: Path, tmp_path: Path) -> None:
    target = tmp_path / "b"
    make_bundle(colour_models / "colours_fp32.tflite", target)
    make_bundle(colour_models / "colours_int8.tflite", target)
    assert [p.name for p in target.glob("*.tflite")] == ["colours_int8.tflite"]
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("all my work")
    with pytest.raises(InputError, match="holds something other than a bundle"):
        make_bundle(colour_models / "colours_int8.tflite", tmp_path / "mine")
    assert {p.name for p in tmp_path.iterdir()} == {"b", "mine"}


def test_an_older_bundle_survives_when_the_new_one_cannot_take_its_place(
    colour_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "b"
    make_bundle(colour_models / "colours_fp32.tflite", target)
    before = {path: path.read_bytes() for path in target.rglob("*") if path.is_file()}
    failed: list[Path] = []

    def failing_once(move: Callable[[Path, Path], Path]) -> Callable[[Path, Path], Path]:
        def moved(path: Path, to: Path) -> Path:
            if to == target and not failed:
                failed.append(path)
                raise OSError(errno.EIO, os.strerror(errno.EIO), str(path))
            return move(path, to)

        return moved

    monkeypatch.setattr("edgeq.work_folders._exchange", lambda one, other: False)  # as on macOS
    for name in ("rename", "replace"):
        monkeypatch.setattr(Path, name, failing_once(getattr(Path, name)))
    with pytest.raises(InputError, match=re.escape(f"{target}: cannot write (Input/output error)")):
        make_bundle(colour_models / "colours_int8.tflite", target)
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before
    assert [path.name for path in tmp_path.iterdir()] == ["b"]


def test_what_came_into_an_older_bundle_in_the_meantime_is_not_lost(
    colour_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / "b"
    target.mkdir()
    module = importlib.import_module("edgeq.bundling.bundle")  # where the package has the function of that name
    monkeypatch.setattr(module, "_check", lambda _: (target / "thesis.txt").write_text("all my work"))
    with pytest.raises(InputError, match="holds something other than a bundle"):
        make_bundle(colour_models / "colours_int8.tflite", target)
    assert [path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*")] == ["b", "b/thesis.txt"]


def test_names_that_a_shell_would_run(colour_models: Path, tmp_path: Path) -> None:
    evil = tmp_path / "$(touch pwned); %n.tflite"
    shutil.copyfile(colour_models / "colours_int8.tflite", evil)
    make_bundle(evil, tmp_path / "b")
    assert (tmp_path / "b" / "__touch_pwned____n.tflite").is_file()
    text = "".join(p.read_text() for p in (tmp_path / "b").iterdir() if p.suffix in (".service", ".md"))
    assert "touch pwned" not in text


def test_a_model_too_new_for_tflite_runtime(tmp_path: Path) -> None:
    assert requirements((3, 11))[-1].startswith("tflite-runtime")
    assert requirements((3, 11), tflite_runtime=False)[-1].startswith("ai-edge-litert")
    assert requirements((3, 13))[-1].startswith("ai-edge-litert")


def test_requirements_are_those_of_the_package() -> None:
    text = (ROOT / "pyproject.toml").read_text()
    for requirement in {*requirements((3, 11)), *requirements((3, 12))}:
        assert f'"{requirement}' in text


@pytest.mark.parametrize("text", ["aarch64", "linux_aarch64", "linux_aarch64-cp2", "linux_aarch64-311", "win-cp311"])
def test_unknown_platforms(text: str) -> None:
    with pytest.raises(InputError, match="must be like linux_aarch64-cp311"):
        Platform.parse(text)


def test_platforms() -> None:
    assert str(Platform.parse("linux_armv7l-cp311")) == "linux_armv7l-cp311"
    assert "manylinux_2_28_aarch64" in Platform.parse("linux_aarch64-cp313").tags


def jpeg(colour: str, seed: int = 0, **options: object) -> bytes:
    out = io.BytesIO()
    colour_picture(colour, seed).save(out, "JPEG", quality=95, **options)
    return out.getvalue()


CAMERA = """#!{python}
# Behaves as rpicam-vid: writes MJPEG to standard output, messages to standard error, and then fails.
import sys, time
expected = "--codec mjpeg --timeout 0 --nopreview --flush --width 640 --height 480 --output -"
if sys.argv[1:] != expected.split():
    sys.exit("ERROR: *** unrecognised option ***")
for name in ("red", "red", "blue", "blue", "blue", "blue"):
    sys.stdout.buffer.write(open(f"{folder}/{{name}}.jpg", "rb").read())
    sys.stdout.buffer.flush()
    time.sleep(0.2)
sys.exit("ERROR: *** Camera frontend has timed out! ***")
"""


class TestWatching:
    def watch(
        self, bundle: Path, source: str, *options: str, stdin: bytes = b"", **variables: str
    ) -> subprocess.CompletedProcess[bytes]:
        command = [sys.executable, "-I", str(bundle / "run.py"), "--watch", source, *options]
        return subprocess.run(
            command, input=stdin, capture_output=True, cwd="/", env=variables, timeout=60, check=False
        )

    def test_standard_input(self, bundle: Path) -> None:
        stream = jpeg("red") + b"no image" + jpeg("red", 1)[:500] + jpeg("blue") * 20
        done = self.watch(bundle, "-", "--json", stdin=stream)
        assert done.returncode == 0, done.stderr
        seen = [json.loads(line) for line in done.stdout.splitlines()]
        expected = top_predictions(Model(bundle / "colours_int8.tflite").classify(jpeg("blue")), list(COLOURS), 3)
        assert seen[-1]["predictions"] == [vars(p) for p in expected]
        assert len(seen) <= 21

    def test_the_same_images_as_edgeq(self) -> None:
        """A thumbnail in the metadata does not end an image, whatever the size of the pieces that arrive."""
        exif = Image.Exif()
        exif[0x010E] = "x" * 50
        images = [jpeg("red", 1), jpeg("green", 2, exif=exif.tobytes() + jpeg("blue")), jpeg("blue", 3)]
        stream = b"HTTP" + b"--frame".join(images)
        for size in (7, 1000, len(stream)):
            parts = iter([*(stream[i : i + size] for i in range(0, len(stream), size)), b""])
            assert list(run.jpegs(lambda: next(parts))) == images  # noqa: B023

    def test_the_camera_and_systemd(self, bundle: Path, tmp_path: Path) -> None:
        for name in COLOURS:
            (tmp_path / f"{name}.jpg").write_bytes(jpeg(name))
        program = tmp_path / "rpicam-vid"
        program.write_text(CAMERA.format(python=sys.executable, folder=tmp_path))
        program.chmod(0o755)
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
            messages.bind(str(tmp_path / "notify"))
            messages.settimeout(5)
            done = self.watch(bundle, "picamera", PATH=str(tmp_path), NOTIFY_SOCKET=str(tmp_path / "notify"))
            assert [messages.recv(100) for _ in range(3)] == [b"READY=1", b"WATCHDOG=1", b"WATCHDOG=1"]
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == b"run.py: rpicam-vid ended"
        labels = [line.split()[-1] for line in done.stdout.decode().splitlines()]
        assert labels[0] == "red"
        assert labels[-1] == "blue"
        assert len(labels) <= 3

    def test_what_it_cannot_watch(self, bundle: Path) -> None:
        done = self.watch(bundle, "picamera", PATH="/nowhere")
        assert (done.returncode, done.stderr.count(b"\n")) == (1, 1)
        assert b"rpicam-vid is not installed" in done.stderr
        assert self.watch(bundle, "http://camera").returncode == 2

    def test_the_unit(self, colour_models: Path, tmp_path: Path) -> None:
        made = make_bundle(colour_models / "colours_int8.tflite", tmp_path / "door", service="watch")
        text = (made.path / "colours_int8.service").read_text()
        assert "run.py --watch picamera" in text
        with pytest.raises(InputError, match="must be photo or watch"):
            make_bundle(colour_models / "colours_int8.tflite", tmp_path / "other", service="both")
        if shutil.which("systemd-analyze") is None:
            pytest.skip("no systemd-analyze to check the unit")
        unit = tmp_path / "colours_int8.service"
        unit.write_text(text.replace("/opt/colours_int8/venv/bin/python", sys.executable))
        command = ["systemd-analyze", "verify", "--man=no", str(unit)]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        about = [line for line in done.stderr.splitlines() if "colours_int8" in line]
        assert about == []
