"""``edgeq train``: what it prints and writes, how it is interrupted, and what the other commands make of its result."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from conftest import COLOURS, NO_NETWORK, ROOT, Finished, colour_picture

from cli import error_of
from edgeq.comparison.dataset import find_labels
from edgeq.networks import open_network
from edgeq.tflite.metadata import read_metadata
from edgeq.training import History

pytest.importorskip("tensorflow")

Run = Callable[..., Finished]
SMALL = ("--res", 32, "--epochs", 2, "--batch", 8, "--views", 2, "--learning-rate", 0.02)
EPOCH = re.compile(r"head +(\d+)  loss \d\.\d{4}  top-1 +[\d.]+ %   validation: loss \d\.\d{4}  top-1 +[\d.]+ %")


@dataclass(frozen=True)
class Whole:
    """A training that nothing interrupted, where ImageNet's weights are unavailable."""

    folder: Path
    done: Finished


@pytest.fixture(scope="module")
def whole(photos: Path, tmp_path_factory: pytest.TempPathFactory, edgeq: Run) -> Whole:
    folder = tmp_path_factory.mktemp("whole")
    (folder / "keras").mkdir()
    env = {**NO_NETWORK, "KERAS_HOME": str(folder / "keras")}
    return Whole(folder, edgeq("train", photos, "--out", "new/colours.keras", *SMALL, cwd=folder, env=env))


class TestSuccess:
    def test_what_it_prints_and_writes(self, whole: Whole) -> None:
        assert (whole.done.code, whole.done.err) == (0, "")
        lines = whole.done.out.splitlines()
        assert lines[0].startswith("ImageNet's weights are neither in Keras's cache nor can they be downloaded")
        assert lines[1] == "Output stride 8: the last feature map has 4x4 cells."
        assert [match and match[1] for match in map(EPOCH.fullmatch, lines[2:4])] == ["1", "2"]
        assert re.fullmatch(
            r"Kept epoch \d \(head\): validation accuracy [\d.]+ % \(95 % interval [\d.]+ to [\d.]+\) on 6 photos\. "
            r"Trained on 30 photos of 3 classes\.",
            lines[4],
        )
        names = [f"new/colours.{end}" for end in ("keras", "history.json", "history.png", "validation.csv")]
        assert [line.split()[0] for line in lines[5:]] == names
        written = sorted(path.name for path in (whole.folder / "new").iterdir())
        assert written == sorted(Path(name).name for name in names)
        assert f"{(whole.folder / names[0]).stat().st_size / 1e6:.2f} MB" in lines[5]

    @pytest.mark.accept
    def test_no_later_command_needs_an_option(
        self, whole: Whole, photos: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        trained = whole.folder / "new" / "colours.keras"
        done = edgeq_here("convert", trained, "--int8", "--calib", photos, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        assert "32x32 RGB, pixels normalized to -1..1" in done.out
        assert f"Calibrated on 30 images from {photos} (seed 0)." in done.out  # not on those held out
        held_out = trained.with_name("colours.validation.csv")
        done = edgeq_here("compare", "--data", held_out, "--json", "drift.json")
        assert (done.code, done.err) == (0, "")
        assert "calibrated" not in done.out  # on none of these
        drift = json.loads((tmp_path / "drift.json").read_text())
        measured = History.from_json(trained.with_name("colours.history.json").read_text()).result["validation_top1"]
        assert (drift["reference"]["top1"], drift["images"]) == (measured, 6)
        colour_picture("green", seed=4).save("green.png")
        done = edgeq_here("infer", "green.png", "--model", "models/colours_int8.tflite", "--top", 1)
        assert (done.code, done.err) == (0, "")
        assert done.out.split()[-1] in COLOURS  # right or wrong after two epochs, but by its name

    @pytest.mark.accept
    @pytest.mark.usefixtures("keras_cache")
    def test_interrupted_by_the_keyboard(self, whole: Whole, photos: Path, tmp_path: Path, edgeq_here: Run) -> None:
        """A real signal to a real process; the same command then goes on to the same network."""
        options = ("train", photos, *SMALL, "--out", "a.keras")
        process = subprocess.Popen(
            [sys.executable, "-m", "edgeq", *map(str, options)],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": str(ROOT), **NO_NETWORK},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        first = [process.stdout.readline() for _ in range(3)]  # piped, and yet there as soon as it is known
        assert first == whole.done.out.splitlines(keepends=True)[:3]
        process.send_signal(signal.SIGINT)
        rest, said = process.communicate(timeout=120)
        if process.returncode == 0:
            pytest.skip("it was faster than the signal")
        assert process.returncode == 130
        assert f"To continue:\n  {shlex.join(['edgeq', *map(str, options), '--resume'])}\n" in said
        assert said.endswith("Interrupted.\n")
        assert "Kept" not in rest
        assert [path.name for path in tmp_path.iterdir()] == ["a.keras.training"]

        again = edgeq_here(*options, cwd=tmp_path)
        assert "a.keras.training: holds an interrupted training; continue with --resume" in error_of(again)
        done = edgeq_here(*options, "--resume")
        assert (done.code, done.err) == (0, "")
        assert (tmp_path / "a.keras").read_bytes() == (whole.folder / "new" / "colours.keras").read_bytes()
        assert done.out.splitlines()[-5] == whole.done.out.splitlines()[-5]  # Kept epoch ...
        assert not (tmp_path / "a.keras.training").exists()
        assert "no interrupted training to resume" in error_of(edgeq_here(*options, "--resume"))

    @pytest.mark.accept
    def test_names_that_are_not_utf_8_and_files_that_are_no_photos(
        self, photos: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        """And one epoch, on a rectangle; MobileNetV3 from scratch takes pixels as they are."""
        folder, name = tmp_path / "photos", os.fsdecode(b"\xff.keras")
        for colour in ("blue", "red"):
            (folder / colour).mkdir(parents=True)
            for number in range(3):
                source = photos / colour / f"{number:02}.jpg"
                shutil.copy(source, folder / colour / os.fsdecode(b"\xfc%d.jpg" % number))
        for name_of_other in ("note1.txt", "note2.txt", "odd.jpg"):
            (folder / "red" / name_of_other).write_text(name_of_other)
        (folder / "red" / "odd.jpg").write_text("no picture 2")  # the split puts this content among the training photos
        options = ("--network", "mobilenet_v3_small_minimalistic", "--alpha", 0.35, "--res", "48x32", "--epochs", 1)
        done = edgeq_here("train", "photos", "--out", name, "--from-scratch", *options, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        lines = done.out.splitlines()
        assert lines[0].startswith("from scratch   1  loss ")
        assert lines[1:4] == [
            "Skipped 1 files:",
            "  photos/red/odd.jpg: not an image that Pillow can read",
            "Skipped 2 files that are not images.",
        ]
        assert "?.keras" in done.out
        network = open_network(tmp_path / name)
        assert (network.width, network.height, network.labels) == (48, 32, ("blue", "red"))
        assert network.preprocessing is not None
        assert network.preprocessing.real_range == (0, 255)
        images, _ = find_labels(tmp_path / name.replace("keras", "validation.csv"), classes=2)
        assert [image.class_index for image in images] == [0, 1]

    @pytest.mark.accept
    def test_flowers(self, shared: Path, tmp_path: Path, edgeq_here: Run, monkeypatch: pytest.MonkeyPatch) -> None:
        """Real photos and ImageNet's weights: three flowers are distinguished after few epochs of the head alone."""
        monkeypatch.setenv("KERAS_HOME", str(shared / "weights" / "keras_home"))
        folder, flowers = tmp_path / "flowers", ("daisy", "rose", "sunflower")
        for flower in flowers:
            (folder / flower).mkdir(parents=True)
            for path in sorted((shared / "data" / "flowers" / flower).iterdir())[:40]:
                shutil.copy(path, folder / flower)
        options = ("--res", 112, "--views", 1, "--epochs", 8, "--learning-rate", 0.01, "--weights", "imagenet")
        done = edgeq_here("train", "flowers", "--out", "flowers.keras", *options, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        result = History.from_json(Path("flowers.history.json").read_text()).result
        assert (result["training_photos"], result["validation_photos"]) == (96, 24)
        assert result["validation_top1"] >= 0.75
        assert read_metadata("flowers.keras").provenance["begun_with"]["weights"] == "imagenet"
        calibration = ("--calib", "flowers", "--calib-count", 20, "--no-refine")
        assert edgeq_here("convert", "flowers.keras", "--int8", *calibration).code == 0
        done = edgeq_here("infer", "flowers", "--model", "models/flowers_int8.tflite", "--top", 1, "--json")
        assert (done.code, done.err) == (0, "")
        found = [json.loads(line) for line in done.out.splitlines()]
        right = [Path(one["file"]).parent.name == one["predictions"][0]["label"] for one in found]
        assert len(right) == 120
        assert sum(right) >= 100


class TestErrors:
    @pytest.fixture(autouse=True)
    def nothing_is_left(self, tmp_path: Path) -> Iterator[None]:
        yield
        assert [path.name for path in tmp_path.rglob("*") if path.name.startswith("m.")] == []

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (
                "--from-scratch --fine-tune 3",
                "--from-scratch trains all layers from random weights; omit --fine-tune",
            ),
            ("--from-scratch --weights imagenet --views 3", "omit --views, --weights"),
            ("--fine-tune-epochs 3", "--fine-tune-epochs: only with --fine-tune"),
            (
                "--fine-tune-epochs 3 --fine-tune-rate 1e-3",
                "--fine-tune-epochs, --fine-tune-rate: only with --fine-tune",
            ),
            ("--weights none", "--weights none: transfer learning needs trained weights; use --from-scratch"),
            ("--weights nowhere.h5", "nowhere.h5: no such weights file"),
            ("--validation 0", "0.0 is not in the range 0<x<1"),
            ("--validation 1", "1.0 is not in the range 0<x<1"),
            ("--validation nan", "is not a finite number"),
            ("--learning-rate inf", "is not a finite number"),
            ("--learning-rate 0", "is not in the range x>0"),
            ("--epochs 0", "0 is not in the range x>=1"),
            ("--batch 0", "0 is not in the range x>=1"),
            ("--seed 2147483648", "2147483648 is not in the range"),
            ("--res 20 --output-stride 32", "too small for an output stride of 32"),
            ("--resume", "no interrupted training to resume"),
        ],
    )
    def test_options_that_make_no_sense(
        self, photos: Path, tmp_path: Path, edgeq_here: Run, options: str, message: str
    ) -> None:
        done = edgeq_here("train", photos, "--out", "m.keras", *options.split(), cwd=tmp_path)
        assert message in error_of(done)
        assert done.out == ""

    @pytest.mark.parametrize(
        ("folder", "out", "message"),
        [
            ("photos", "m.h5", "m.h5: must end in .keras"),
            ("nowhere", "m.keras", "nowhere: no such folder"),
            ("photos/red", "m.keras", "has no sub-folders"),
            ("photos", "photos/m.keras", "lies among the photos"),
            ("photos", "file/m.keras", "cannot write"),
        ],
    )
    def test_files_that_cannot_serve(
        self, photos: Path, tmp_path: Path, edgeq_here: Run, folder: str, out: str, message: str
    ) -> None:
        (tmp_path / "photos").symlink_to(photos)
        (tmp_path / "file").touch()
        done = edgeq_here("train", folder, "--out", out, "--res", 32, cwd=tmp_path)
        assert message in error_of(done)

    @pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write everywhere")
    def test_a_folder_that_may_not_be_written_to(self, photos: Path, tmp_path: Path, edgeq_here: Run) -> None:
        (tmp_path / "closed").mkdir(mode=0o500)
        done = edgeq_here("train", photos, "--out", tmp_path / "closed" / "m.keras", "--res", 32)
        assert "Permission denied" in error_of(done)

    def test_an_alpha_that_only_imagenet_s_weights_have(
        self, photos: Path, tmp_path: Path, edgeq_here: Run, keras_cache: Path
    ) -> None:
        """The small network that comes with edgeq is no answer then; a failure leaves nothing to trip over."""
        options = ("--res", 96, "--alpha", 0.75)
        for _ in range(2):
            done = edgeq_here("train", photos, "--out", "m.keras", *options, cwd=tmp_path)
            assert "ImageNet's weights are unavailable" in error_of(done)
        assert list(keras_cache.iterdir()) == []


def test_closed_streams_do_no_harm(photos: Path, tmp_path: Path) -> None:
    done: Any = subprocess.run(
        f"exec {sys.executable} -m edgeq train {photos} --out m.h5 >&- 2>&-",
        shell=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 2
