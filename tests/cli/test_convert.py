"""``edgeq convert``: the files it writes, what it prints, and what it says when something is wrong."""

from __future__ import annotations

import importlib.util
import shutil
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import Finished, colour_picture

from cli import error_of
from edgeq.cli import main
from edgeq.conversion import FORMATS
from edgeq.metadata import read_metadata
from edgeq.runtime import RUNTIMES, Model

pytest.importorskip("tensorflow")

Run = Callable[..., Finished]
NO_NETWORK = dict.fromkeys(("http_proxy", "https_proxy", "HTTP_PROXY", "HTTPS_PROXY"), "http://127.0.0.1:9")
NORMALIZE = ("--normalize", "-1..1")


@pytest.fixture
def edgeq_here(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> Iterator[Run]:
    """As the fixture `edgeq`, but within this process, which has TensorFlow already: it takes seconds to load."""
    terminate = signal.getsignal(signal.SIGTERM)

    def run(*arguments: object, cwd: Path | None = None) -> Finished:
        if cwd is not None:
            monkeypatch.chdir(cwd)
        capfd.readouterr()
        with pytest.raises(SystemExit) as exit_:
            main([*map(str, arguments)])
        assert isinstance(exit_.value.code, int)
        return Finished(exit_.value.code, *capfd.readouterr())

    yield run
    signal.signal(signal.SIGTERM, terminate)


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that holds results of earlier conversions, which failures must not touch."""
    folder = tmp_path / "models"
    folder.mkdir()
    for form in FORMATS:
        for name in ("colours", "mobilenet_v2_0.35_32", "net"):
            (folder / f"{name}_{form}.tflite").write_text(f"old {form}")
    return folder


def is_untouched(out: Path) -> bool:
    contents = {path.name: path.read_bytes() for path in out.iterdir()}
    return len(contents) == 3 * len(FORMATS) and all(content.startswith(b"old ") for content in contents.values())


class TestSuccess:
    def test_an_integer_model_of_one_s_own(
        self, colour_network: Path, photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        options = ("--int8", "--calib", photos, "--calib-count", 12, "--labels", photos, *NORMALIZE)
        done = edgeq("convert", colour_network, *options, "--out", "new/models", cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        made = {path.name: path for path in (tmp_path / "new" / "models").iterdir()}
        assert set(made) == {"colours_fp32.tflite", "colours_int8.tflite"}
        lines = done.out.splitlines()
        assert [line.split()[0] for line in lines[:2]] == [
            "new/models/colours_fp32.tflite",
            "new/models/colours_int8.tflite",
        ]
        for line, form in zip(lines, ("fp32", "int8"), strict=False):
            assert f"{made[f'colours_{form}.tflite'].stat().st_size / 1000:.1f} kB" in line
            assert line.endswith(FORMATS[form].description)
        assert lines[2:] == [
            "Takes 32x32 RGB, pixels normalized to -1..1.",
            f"Calibrated on 12 images of {photos} (seed 0).",
        ]
        picture = colour_picture("red", seed=4)
        for path in made.values():
            model = Model(path)
            assert model.labels == ("blue", "green", "red")  # alphabetical, as Keras has folders
            assert int(model.classify(picture).argmax()) == 2

    def test_mobilenet_without_any_data(self, tmp_path: Path, edgeq: Run) -> None:
        size = ("--res", "48x32", "--alpha", 0.35, "--classes", 4, "--weights", "none", "--seed", 5)
        done = edgeq("convert", *size, "--int8", "--io", "uint8", "--calib-count", 10, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        path = tmp_path / "models" / "mobilenet_v2_0.35_48x32_int8.tflite"
        model = Model(path)
        assert model.input.shape == (1, 32, 48, 3)  # height before width
        assert model.input.quantization.dtype == model.output.quantization.dtype == "uint8"
        provenance = read_metadata(path).provenance
        assert provenance["parent"] == {"architecture": "MobileNetV2", "alpha": 0.35, "weights": "random", "seed": 5}
        assert (provenance["calibration"]["count"], provenance["calibration"]["seed"]) == (10, 5)
        *_, calibrated, unnamed = done.out.splitlines()
        assert calibrated == "Calibrated on 10 images of the set that comes with edgeq (seed 5)."
        assert unnamed == "No labels: predictions will be numbers (0 to 3); --labels names them."

    def test_the_files_it_skipped_are_listed(
        self, colour_network: Path, photos: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        shutil.copytree(photos / "red", tmp_path / "photos")
        for i in range(13):
            (tmp_path / "photos" / f"note{i:02}.txt").write_text(f"note {i}")
        options = ("--int8", "--calib", tmp_path / "photos", "--out", tmp_path / "out", *NORMALIZE)
        done = edgeq_here("convert", colour_network, *options)
        assert (done.code, done.err) == (0, "")
        _, _, _, _, heading, *skipped = done.out.splitlines()
        assert heading == "Skipped 13 files:"
        shown = [line for line in skipped if line.endswith(".txt: not an image that Pillow can read")]
        assert len(shown) == 10
        assert "  ... and 3 more" in skipped

    def test_a_network_that_rescales_needs_no_normalization(self, tmp_path: Path, edgeq_here: Run) -> None:
        import keras

        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((24, 24, 1)),
                layers.Rescaling(1 / 255),
                layers.Conv2D(2, 3, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(1, activation="sigmoid"),
            ]
        )
        model.save(tmp_path / "grey.keras")
        done = edgeq_here("convert", tmp_path / "grey.keras", "--out", tmp_path / "out")
        assert (done.code, done.err) == (0, "")
        preprocessing = read_metadata(tmp_path / "out" / "grey_fp32.tflite").preprocessing
        assert preprocessing is not None
        assert (preprocessing.mean, preprocessing.std, preprocessing.channels) == ((0.0,), (1.0,), "L")

    def test_whatever_runtime_the_environment_prefers(
        self, colour_network: Path, photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        """tflite-runtime, too, which does not work beside TensorFlow."""
        if importlib.util.find_spec(RUNTIMES["tflite-runtime"].partition(".")[0]) is None:
            pytest.skip("no tflite-runtime")
        options = ("--int8", "--calib", photos, "--calib-count", 10, *NORMALIZE, "--out", tmp_path)
        done = edgeq("convert", colour_network, *options, env={"EDGEQ_RUNTIME": "tflite-runtime"})
        assert (done.code, done.err) == (0, "")


def make_bad_inputs(folder: Path) -> None:
    (folder / "odd.keras").write_text("no network")
    (folder / "odd.onnx").write_text("no network")
    (folder / "odd.h5").write_text("no weights")
    (folder / "two.txt").write_text("a\nb\n")
    (folder / "few").mkdir()
    for i in range(9):
        colour_picture("red", seed=i).save(folder / "few" / f"{i}.png")
    (folder / "none").mkdir()


TINY = ("--res", "32", "--alpha", "0.35", "--classes", "4", "--weights", "none")


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["missing.keras"], "missing.keras: no such model", id="source-missing"),
            pytest.param(["odd.onnx"], "odd.onnx: neither a Keras model", id="source-of-another-kind"),
            pytest.param(["none"], "none: a folder, but no SavedModel", id="source-any-folder"),
            pytest.param(["odd.keras"], "odd.keras: Keras cannot load this model", id="source-damaged"),
            pytest.param(["COLOURS", "--normalize", "2"], "normalization '2': must be one of", id="normalization-odd"),
            pytest.param(["COLOURS", "--alpha", "0.5"], "are for MobileNetV2; SOURCE brings", id="source-and-alpha"),
            pytest.param(["COLOURS", "--classes", "3"], "are for MobileNetV2; SOURCE brings", id="source-and-classes"),
            pytest.param(["COLOURS", "--weights", "none"], "are for MobileNetV2", id="source-and-weights"),
            pytest.param(["COLOURS", "--labels", "missing"], "missing: cannot read labels", id="labels-missing"),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--int8", "--calib", "missing"], "missing: no such folder", id="calib-missing"
            ),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--int8", "--calib", "few"], "few: 9 usable images", id="calib-too-few"
            ),
            pytest.param(["--calib-count", "0"], "0 is not in the range", id="calib-count-0"),
            pytest.param(["--res", "big"], "'big' is no size; give pixels", id="res-word"),
            pytest.param(["--res", "160x"], "'160x' is no size", id="res-half"),
            pytest.param(["--res", "-160"], "'-160' is no size", id="res-negative"),
            pytest.param([*TINY, "--alpha", "wide"], "'wide' is not a valid float", id="alpha-word"),
            pytest.param([*TINY, "--classes", "1"], "1 is not in the range", id="classes-1"),
            pytest.param([*TINY, "--crop", "0"], "0", id="crop-0"),
            pytest.param([*TINY, "--io", "int16"], "'int16' is not one of", id="io"),
            pytest.param([*TINY, "--weights", "missing.h5"], "missing.h5: no such weights file", id="weights-missing"),
            pytest.param(["--classes", "5"], "ImageNet's weights have 1000 classes, not 5", id="imagenet-classes"),
            pytest.param(["COLOURS", "and", "more"], "unexpected extra argument", id="too-many-arguments"),
        ],
    )
    def test_say_in_one_line_what_is_wrong(
        self, arguments: list[str], message: str, colour_network: Path, out: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        self.check(edgeq, arguments, message, colour_network, out, tmp_path)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["COLOURS"], "does not say how its input is normalized; give", id="normalization-unknown"),
            pytest.param(["COLOURS", "--normalize", "1/0"], "std positive", id="normalization-std-0"),
            pytest.param(["COLOURS", *NORMALIZE, "--res", "64"], "is made for 32x32 pixels", id="another-size"),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--labels", "two.txt"],
                "two.txt: has 2 labels, but colours has 3 classes",
                id="labels-of-another-number",
            ),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--int8", "--calib", "none"], "none: 0 usable images", id="calib-empty"
            ),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--int8", "--calib-count", "9"],
                "9 is not in the range x>=10",
                id="calib-count-9",
            ),
            pytest.param([*TINY, "--res", "16"], "smallest possible is 32x32", id="res-too-small"),
            pytest.param([*TINY, "--res", "0"], "0x0", id="res-0"),
            pytest.param([*TINY, "--alpha", "0"], "width multiplier 0.0", id="alpha-0"),
            pytest.param([*TINY, "--alpha", "nan"], "nan", id="alpha-nan"),
            pytest.param([*TINY, "--seed", "-1"], "-1", id="seed-negative"),
            pytest.param([*TINY, "--weights", "odd.h5"], "odd.h5: these weights do not fit", id="weights-damaged"),
            pytest.param(["--alpha", "0.4"], "no ImageNet weights exist for width multiplier 0.4", id="imagenet-alpha"),
        ],
    )
    def test_that_show_only_when_there_is_a_network(
        self, arguments: list[str], message: str, colour_network: Path, out: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        self.check(edgeq_here, arguments, message, colour_network, out, tmp_path)

    def check(
        self, run: Run, arguments: list[str], message: str, colour_network: Path, out: Path, folder: Path
    ) -> None:
        make_bad_inputs(folder)
        given = [str(colour_network) if argument == "COLOURS" else argument for argument in arguments]
        done = run("convert", *given, "--out", out, cwd=folder)
        assert message in error_of(done)
        assert done.out == ""
        assert is_untouched(out)

    def test_weights_that_cannot_be_had(self, out: Path, tmp_path: Path, edgeq: Run) -> None:
        env = {**NO_NETWORK, "KERAS_HOME": str(tmp_path / "keras")}
        done = edgeq("convert", "--res", 96, "--alpha", 0.35, "--int8", "--out", out, env=env)
        error = error_of(done)
        assert "mobilenet_v2_weights_tf_dim_ordering_tf_kernels_0.35_96.h5" in error
        assert str(tmp_path / "keras" / "models") in error
        assert done.out == ""
        assert is_untouched(out)

    def test_a_network_that_cannot_be_integer(self, out: Path, photos: Path, tmp_path: Path, edgeq: Run) -> None:
        import keras

        layers = keras.layers
        model = keras.Sequential(
            [
                keras.Input((16, 16, 3)),
                layers.Conv2D(4, 3),
                layers.Activation("elu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(2),
            ]
        )
        model.save(tmp_path / "net.keras")
        options = ("--int8", "--calib", photos, "--calib-count", 10, *NORMALIZE, "--out", out)
        done = edgeq("convert", tmp_path / "net.keras", *options)
        assert "ELU" in error_of(done)
        assert done.out == ""
        assert is_untouched(out)

    @pytest.mark.parametrize("where", ["a-file", "a-folder-of-the-file-s-name"])
    def test_places_that_cannot_be_written(
        self, where: str, colour_network: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        target = tmp_path / "models"
        if where == "a-folder-of-the-file-s-name":
            (target / "colours_fp32.tflite").mkdir(parents=True)
        else:
            target.write_text("mine")
        done = edgeq_here("convert", colour_network, *NORMALIZE, "--out", target)
        assert "cannot write" in error_of(done)
        assert done.out == ""
        if target.is_file():
            assert target.read_text() == "mine"
        else:
            assert [path.name for path in target.iterdir()] == ["colours_fp32.tflite"]

    @pytest.mark.parametrize(
        "options",
        [("--calib", "PHOTOS"), ("--io", "uint8")],
        ids=lambda options: options[0],
    )
    def test_options_that_would_mean_nothing(
        self, options: tuple[Any, ...], colour_network: Path, photos: Path, out: Path, edgeq: Run
    ) -> None:
        """Without --int8, these would silently do nothing, and someone would wait for an integer file."""
        given = [str(photos) if option == "PHOTOS" else option for option in options]
        done = edgeq("convert", colour_network, *NORMALIZE, *given, "--out", out)
        assert options[0] in error_of(done)
        assert is_untouched(out)
