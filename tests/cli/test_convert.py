"""``edgeq convert``: the files it writes, what it prints, and what it says when something is wrong."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import math
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, NO_NETWORK, Finished, IntegerPair, colour_picture
from networks import kerass, randomize

from cli import error_of
from edgeq.conversion import FORMATS
from edgeq.networks import Architecture, build_keras_model, choose_output_stride, imagenet
from edgeq.networks.bundled import bundled_for
from edgeq.networks.saving import save_network
from edgeq.preprocessing import Preprocessing
from edgeq.refinement import Refinement
from edgeq.report.files import refinement_line
from edgeq.runtime import RUNTIMES, Model
from edgeq.tflite.archive import split
from edgeq.tflite.metadata import ModelMetadata, read_metadata

pytest.importorskip("tensorflow")

Run = Callable[..., Finished]
NORMALIZE = ("--normalize", "-1..1")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A folder that holds results of earlier conversions, which failures must not touch."""
    folder = tmp_path / "models"
    folder.mkdir()
    for form in FORMATS:
        for name in ("colours", "mobilenet_v2_0.35_32_os8", "net"):
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
        refinement = read_metadata(made["colours_int8.tflite"]).provenance["refinement"]
        assert lines[2:] == [
            "Input: 32x32 RGB, pixels normalized to -1..1.",
            f"Calibrated on 12 images from {photos} (seed 0).",
            refinement_line(Refinement(**{k.replace("l1", "error"): v for k, v in refinement.items() if k != "kept"})),
        ]
        assert (refinement["images"], refinement["checked_on"]) == (10, 2)
        picture = colour_picture("red", seed=4)
        for path in made.values():
            model = Model(path)
            assert model.labels == ("blue", "green", "red")  # alphabetical, as Keras has folders
            assert int(model.classify(picture).argmax()) == 2

    @pytest.mark.accept
    def test_mobilenet_without_any_data(self, tmp_path: Path, edgeq: Run) -> None:
        size = ("--res", "48x32", "--alpha", 0.35, "--classes", 4, "--weights", "none", "--seed", 5)
        done = edgeq("convert", *size, "--int8", "--io", "uint8", "--calib-count", 10, cwd=tmp_path)
        assert (done.code, done.err) == (0, "")
        path = tmp_path / "models" / "mobilenet_v2_0.35_48x32_os8_int8.tflite"
        model = Model(path)
        assert model.input.shape == (1, 32, 48, 3)  # height before width
        assert model.input.quantization.dtype == model.output.quantization.dtype == "uint8"
        provenance = read_metadata(path).provenance
        assert provenance["parent"] == {
            "architecture": "mobilenet_v2",
            "alpha": 0.35,
            "output_stride": 8,
            "weights": "random",
            "seed": 5,
        }
        assert (provenance["calibration"]["count"], provenance["calibration"]["seed"]) == (10, 5)
        *_, stride, calibrated, refined, unnamed = done.out.splitlines()
        assert "Refined on 8 images" in refined or "unrefined model" in refined
        assert stride == "Output stride 8: the last feature map has 6x4 cells."
        assert calibrated == "Calibrated on 10 bundled images (seed 5)."
        assert "class numbers (0 to 3)" in unnamed
        assert "--labels" in unnamed

    @pytest.mark.parametrize("given", [(), ("--no-refine",)], ids=["refined", "not-refined"])
    def test_refines_unless_told_not_to(
        self, given: tuple[str, ...], blocks_network: Path, blocks: IntegerPair, tmp_path: Path, edgeq_here: Run
    ) -> None:
        (tmp_path / "labels.txt").write_text("\n".join("abcdef"))
        options = ("--int8", "--calib-count", 40, "--labels", tmp_path / "labels.txt", "--crop", 1, *NORMALIZE)
        done = edgeq_here("convert", blocks_network, *options, *given, "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        path = tmp_path / "blocks_int8.tflite"
        ours, theirs = (split(file.read_bytes(), file)[0] for file in (path, blocks.int8))
        assert len(ours) == len(theirs)  # not a byte more
        record = read_metadata(path).provenance["refinement"]
        if given:
            assert "efined" not in done.out
            assert record is None
            assert path.read_bytes() == blocks.int8.read_bytes()
        else:
            sentence = done.out.splitlines()[-1]
            assert sentence.startswith("Refined on 32 images. ")
            assert (
                f"on 8 held-out images: {record['l1_before']:.4f} before, {record['l1_after']:.4f} after; on"
                in sentence
            )
            assert record["l1_after"] < 0.65 * record["l1_before"]

    def test_the_files_it_skipped_are_listed(
        self, colour_network: Path, photos: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        shutil.copytree(photos / "red", tmp_path / "photos")
        for i in range(13):
            (tmp_path / "photos" / f"odd{i:02}.jpg").write_text(f"no image {i}")
            (tmp_path / "photos" / f"note{i:02}.txt").write_text(f"note {i}")
        options = ("--int8", "--calib", tmp_path / "photos", "--out", tmp_path / "out", *NORMALIZE)
        done = edgeq_here("convert", colour_network, *options)
        assert (done.code, done.err) == (0, "")
        _, _, _, _, heading, *skipped = done.out.splitlines()
        assert heading == "Skipped 13 files:"
        shown = [line for line in skipped if line.endswith(".jpg: not an image that Pillow can read")]
        assert len(shown) == 10
        assert "  ... and 3 more" in skipped
        assert "Skipped 13 files that are not images." in skipped

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
        assert "class numbers (0 to 1)" in done.out.splitlines()[-1]
        preprocessing = read_metadata(tmp_path / "out" / "grey_fp32.tflite").preprocessing
        assert preprocessing is not None
        assert (preprocessing.mean, preprocessing.std, preprocessing.channels) == ((0.0,), (1.0,), "L")
        assert "class numbers (0 to 1)" in done.out  # its one score is the second of two classes

    @pytest.mark.parametrize("names", [("no", "yes"), ("yes",), ("a", "b", "c")], ids=len)
    def test_one_sigmoid_tells_two_classes_apart(self, names: tuple[str, ...], tmp_path: Path, edgeq_here: Run) -> None:
        import keras

        layers = keras.layers
        steps = [layers.Conv2D(2, 3, activation="relu"), layers.GlobalAveragePooling2D(), layers.Dense(1, "sigmoid")]
        keras.Sequential([keras.Input((24, 24, 3)), *steps]).save(tmp_path / "net.keras")
        (tmp_path / "labels.txt").write_text("\n".join(names))
        options = ("--int8", "--calib-count", 10, "--labels", tmp_path / "labels.txt", *NORMALIZE)
        done = edgeq_here("convert", tmp_path / "net.keras", *options, "--out", tmp_path)
        if len(names) != 2:
            message = f"{tmp_path / 'labels.txt'}: has {len(names)} labels, but net has 2 classes"
            assert (done.code, done.err) == (2, f"Error: {message}\n")
            return
        assert (done.code, done.err) == (0, "")
        model = Model(tmp_path / "net_int8.tflite")
        assert (model.labels, model.classes) == (names, 2)
        assert model.classify(colour_picture("red", seed=1)).sum() == 1

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("side", [20, 28])
    def test_small_inputs(self, side: int, tmp_path: Path, edgeq_here: Run) -> None:
        options = ("--alpha", 0.35, "--classes", 4, "--weights", "none", "--int8", "--calib-count", 10)
        done = edgeq_here("convert", "--res", side, *options, "--no-refine", "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        stride = choose_output_stride(side, side)
        cells = math.ceil(side / stride)
        assert cells >= 4
        assert f"Output stride {stride}: the last feature map has {cells}x{cells} cells.\n" in done.out
        model = Model(tmp_path / f"mobilenet_v2_0.35_{side}_os{stride}_int8.tflite")
        assert model.input.shape == (1, side, side, 3)
        scores = [model.classify(colour_picture(colour, seed=1)) for colour in COLOURS]
        assert not np.array_equal(scores[0], scores[1])  # the integers still tell pictures apart

    def test_what_was_asked_for_is_in_the_name_and_in_the_file(self, tmp_path: Path, edgeq_here: Run) -> None:
        options = ("--network", "mobilenet_v3_small_minimalistic", "--output-stride", "auto", "--head", 16)
        sizes = ("--res", "50x100", "--classes", 4, "--weights", "none")
        done = edgeq_here("convert", *options, *sizes, "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        path = tmp_path / "mobilenet_v3_small_minimalistic_1.0_50x100_os16_head16_fp32.tflite"
        parent = read_metadata(path).provenance["parent"]
        assert (parent["architecture"], parent["output_stride"], parent["head"]) == (
            "mobilenet_v3_small_minimalistic",
            16,
            16,
        )
        assert "50x100 RGB, pixels normalized to 0..255" in done.out

    def test_whatever_runtime_the_environment_prefers(
        self, colour_network: Path, photos: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        """tflite-runtime, too, which does not work beside TensorFlow."""
        if importlib.util.find_spec(RUNTIMES["tflite-runtime"].partition(".")[0]) is None:
            pytest.skip("no tflite-runtime")
        options = ("--int8", "--calib", photos, "--calib-count", 10, *NORMALIZE, "--out", tmp_path)
        done = edgeq("convert", colour_network, *options, env={"EDGEQ_RUNTIME": "tflite-runtime"})
        assert (done.code, done.err) == (0, "")


class TestMobileNetV3:
    @pytest.mark.accept
    def test_the_float_file_gives_what_keras_gives_of_the_same_pixels(
        self, photos: Path, tmp_path: Path, edgeq: Run, edgeq_here: Run
    ) -> None:
        """Keras's network takes pixel values as they are; so has the file to, in every command."""
        files = sorted(photos.rglob("*.jpg"))[::4]
        pixels = np.stack([Preprocessing(96, 96, crop=1.0).pixels(file) for file in files]).astype(np.float32)
        model = randomize(kerass("mobilenet_v3_small", 96, 96, classes=3, activation="linear"), seed=4)
        # What it thinks of these pictures is made to differ as far as possible.
        logits, last = model.predict(pixels, verbose=0), model.get_layer("logits")
        kernel, bias = last.get_weights()
        last.set_weights([kernel / logits.std(axis=0), (bias - logits.mean(axis=0)) / logits.std(axis=0)])
        exponentials = np.exp(model.predict(pixels, verbose=0))
        expected = exponentials / exponentials.sum(axis=1, keepdims=True)
        assert len({*expected.argmax(axis=1)}) > 1
        model.save_weights(tmp_path / "mine.weights.h5")
        options = ("--network", "mobilenet_v3_small", "--res", 96, "--classes", 3, "--labels", photos)
        done = edgeq_here("convert", *options, "--weights", tmp_path / "mine.weights.h5", "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        path = tmp_path / "mobilenet_v3_small_1.0_96_fp32.tflite"
        preprocessing = read_metadata(path).preprocessing
        assert preprocessing is not None
        assert preprocessing.real_range == (0, 255)

        inferred = edgeq("infer", *files, "--model", path, "--top", 3, "--json")
        assert (inferred.code, inferred.err) == (0, "")
        found = np.zeros((len(files), 3))
        for row, line in zip(found, inferred.out.splitlines(), strict=True):
            for prediction in json.loads(line)["predictions"]:
                row[prediction["index"]] = prediction["probability"]
        np.testing.assert_allclose(found, expected, atol=1e-4)
        np.testing.assert_array_equal(found.argmax(axis=1), expected.argmax(axis=1))


class TestWeights:
    def test_without_imagenets_the_bundled_ones_and_it_says_so(
        self, keras_cache: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        done = edgeq_here("convert", "--res", 96, "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        known = bundled_for(32)
        (line,) = [line for line in done.out.splitlines() if "ImageNet" in line]
        assert line.startswith("ImageNet's weights are neither in Keras's cache nor can they be downloaded")
        assert f"took {known.name}, which comes with edgeq" in line
        (path,) = tmp_path.glob("*.tflite")
        metadata = read_metadata(path)
        assert metadata.labels == known.labels
        assert metadata.provenance["parent"] == {
            "architecture": known.family,
            "alpha": known.alpha,
            "weights": known.name,
            "sha256": hashlib.sha256(known.weights.read_bytes()).hexdigest(),
        }

    @pytest.mark.accept
    def test_bundled_ones_that_were_asked_for_need_no_remark(
        self, keras_cache: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        done = edgeq_here("convert", "--res", 32, "--weights", "bundled", "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        assert "ImageNet" not in done.out
        (path,) = tmp_path.glob("*.tflite")
        assert read_metadata(path).provenance["parent"]["weights"] == bundled_for(8).name

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param(("--weights", "imagenet"), "ImageNet's weights are unavailable", id="imagenet"),
            pytest.param(("--alpha", 1.0), "ImageNet's weights are unavailable", id="alpha"),
            pytest.param(("--classes", 1000), "ImageNet's weights are unavailable", id="classes"),
            pytest.param(("--network", "mobilenet_v3_large"), "ImageNet's weights are unavailable", id="network"),
            pytest.param(("--classes", 10), "ImageNet's weights have 1000 classes, not 10", id="other-classes"),
            pytest.param(("--head", 0), "ImageNet's weights have their own head", id="head"),
            pytest.param(("--weights", "bundled", "--head", 0), "omit --network, --alpha, ", id="bundled-and-head"),
        ],
    )
    def test_never_others_than_what_was_asked_for(
        self,
        options: tuple[Any, ...],
        message: str,
        keras_cache: Path,
        tmp_path: Path,
        edgeq_here: Run,
        monkeypatch: pytest.MonkeyPatch,
    ) -> None:
        monkeypatch.setattr(imagenet, "_fetch", lambda architecture: None)
        done = edgeq_here("convert", "--res", 96, *options, "--out", tmp_path / "out")
        assert message in error_of(done)
        assert done.out == ""
        assert not (tmp_path / "out").exists()


class TestNetworksOfEdgeqTrain:
    """.keras files that say themselves what they are."""

    SAID = Preprocessing(24, 24, (0.0,), (255.0,), crop=0.9)

    @pytest.fixture(scope="class")
    def trained(self, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
        held_out = sorted(photos.rglob("*.jpg"))[::3]
        fingerprints = tuple(hashlib.sha256(photo.read_bytes()).hexdigest()[:16] for photo in held_out)
        metadata = ModelMetadata(tuple(COLOURS), self.SAID, "probabilities", {"trained_on": "photos"}, fingerprints)
        model = randomize(build_keras_model(Architecture("mobilenet_v2", 24, 24, 0.35, 8, classes=3)))
        path = tmp_path_factory.mktemp("trained") / "mine.keras"
        save_network(model, path, metadata)
        return path

    def test_need_no_options_and_are_not_calibrated_on_what_was_held_out(
        self, trained: Path, photos: Path, tmp_path: Path, edgeq_here: Run
    ) -> None:
        done = edgeq_here("convert", trained, "--int8", "--no-refine", "--calib", photos, "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        assert "24x24 RGB, pixels normalized to 0..1" in done.out
        assert f"Calibrated on 24 images from {photos} (seed 0)." in done.out  # of 36
        assert "Skipped" not in done.out
        assert "No labels" not in done.out
        for form in ("fp32", "int8"):
            metadata = read_metadata(tmp_path / f"mine_{form}.tflite")
            assert metadata.labels == tuple(COLOURS)
            assert metadata.preprocessing == self.SAID
            assert metadata.provenance["parent"]["trained_on"] == "photos"
        rest = [photo for n, photo in enumerate(sorted(photos.rglob("*.jpg"))) if n % 3]
        assert metadata.calibrated_on == {hashlib.sha256(p.read_bytes()).hexdigest()[:16] for p in rest}

    @pytest.mark.accept
    def test_the_user_has_the_last_word(self, trained: Path, tmp_path: Path, edgeq_here: Run) -> None:
        (tmp_path / "names.txt").write_text("azul\nverde\nrojo\n")
        options = ("--normalize", "-1..1", "--crop", 1, "--labels", tmp_path / "names.txt")
        done = edgeq_here("convert", trained, *options, "--out", tmp_path)
        assert (done.code, done.err) == (0, "")
        metadata = read_metadata(tmp_path / "mine_fp32.tflite")
        assert metadata.labels == ("azul", "verde", "rojo")
        assert metadata.preprocessing == Preprocessing(24, 24, crop=1.0)

    def test_too_few_photos_that_were_not_held_out(self, trained: Path, photos: Path, edgeq_here: Run) -> None:
        done = edgeq_here("convert", trained, "--int8", "--calib", photos / "red")
        assert "red: 8 usable images (0 files skipped, 4 held out for evaluation)" in error_of(done)


def make_bad_inputs(folder: Path) -> None:
    (folder / "odd.keras").write_text("no network")
    (folder / "odd.pkl").write_text("no network")
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
            pytest.param(["odd.pkl"], "odd.pkl: neither a Keras model", id="source-of-another-kind"),
            pytest.param(["none"], "none: is a folder, but not a SavedModel", id="source-any-folder"),
            pytest.param(["odd.keras"], "odd.keras: Keras cannot load this model", id="source-damaged"),
            pytest.param(["COLOURS", "--normalize", "2"], "normalization '2': must be one of", id="normalization-odd"),
            pytest.param(["COLOURS", "--alpha", "0.5"], "--alpha: only for networks that edgeq", id="source-and-alpha"),
            pytest.param(
                ["COLOURS", "--classes", "3", "--weights", "none", "--network", "mobilenet_v2"],
                "--classes, --network, --weights: only for networks that edgeq builds",
                id="source-and-others",
            ),
            pytest.param(["COLOURS", "--head", "0"], "--head: only for networks", id="source-and-head"),
            pytest.param(["COLOURS", "--output-stride", "8"], "--output-stride: only", id="source-and-output-stride"),
            pytest.param(["--network", "resnet"], "'resnet' is not one of 'mobilenet_v2', ", id="network"),
            pytest.param(["--output-stride", "64"], "'64' is not one of '4', '8', '16', '32', 'auto'", id="stride-64"),
            pytest.param(["--head", "-1"], "-1 is not in the range x>=0", id="head-negative"),
            pytest.param(["COLOURS", "--labels", "missing"], "missing: cannot read labels", id="labels-missing"),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--int8", "--calib", "missing"], "missing: no such folder", id="calib-missing"
            ),
            pytest.param(
                ["COLOURS", *NORMALIZE, "--int8", "--calib", "few"], "few: 9 usable images", id="calib-too-few"
            ),
            pytest.param(["--calib-count", "0"], "0 is not in the range", id="calib-count-0"),
            pytest.param(["--res", "big"], "'big' is not a size; give pixels", id="res-word"),
            pytest.param(["--res", "160x"], "'160x' is not a size", id="res-half"),
            pytest.param(["--res", "-160"], "'-160' is not a size", id="res-negative"),
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
            pytest.param([*TINY, "--res", "3"], "the smallest possible side is 4 pixels", id="res-too-small"),
            pytest.param(
                [*TINY, "--res", "40x31", "--output-stride", "32"],
                "input size 40x31: too small for an output stride of 32; the smallest possible side is 32 pixels; with "
                "--output-stride auto, 4",
                id="res-too-small-for-the-output-stride",
            ),
            pytest.param([*TINY, "--res", "0"], "0x0", id="res-0"),
            pytest.param([*TINY, "--alpha", "0"], "width multiplier 0.0", id="alpha-0"),
            pytest.param([*TINY, "--alpha", "nan"], "nan", id="alpha-nan"),
            pytest.param([*TINY, "--seed", "-1"], "-1", id="seed-negative"),
            pytest.param([*TINY, "--weights", "odd.h5"], "odd.h5: these weights do not fit", id="weights-damaged"),
            pytest.param(
                ["--alpha", "0.4"],
                "no ImageNet weights exist for mobilenet_v2 of width multiplier 0.4",
                id="imagenet-alpha",
            ),
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
        [("--calib", "PHOTOS"), ("--io", "uint8"), ("--no-refine",)],
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
