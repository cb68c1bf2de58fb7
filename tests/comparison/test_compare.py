"""Whole comparisons of real files, against what their outputs say when they are run one by one."""

from __future__ import annotations

import json
import math
import os
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, ROOT, colour_picture
from PIL import Image

from edgeq.calibration import choose_images
from edgeq.comparison import Comparison, compare
from edgeq.comparison.pair import NamedImage, Pair
from edgeq.conversion import FORMATS, convert_network
from edgeq.errors import DeviceError, InputError, ModelError, UnknownNormalizationError
from edgeq.execution.backend import Backend, WorkerBackend
from edgeq.networks import Network, open_network
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing
from edgeq.quiet import quiet
from edgeq.runtime import Model

tf = pytest.importorskip("tensorflow")

COLOURS_INPUT = Preprocessing(32, 32, crop=1.0)
Make = Callable[..., Path]


def means(image: Any) -> Any:
    """Averages of blue, green and red: (1, 3)."""
    return tf.reduce_mean(image, axis=[1, 2])[:, ::-1]


@pytest.fixture(scope="module")
def make(tmp_path_factory: pytest.TempPathFactory) -> Make:
    """Convert a function of an image to a float model, once each: ``make("name", function, labels)``."""
    out = tmp_path_factory.mktemp("made")

    def make(
        name: str,
        function: Callable[[Any], Any],
        labels: tuple[str, ...] = tuple(COLOURS),
        preprocessing: Preprocessing = COLOURS_INPUT,
    ) -> Path:
        path = out / f"{name}_fp32.tflite"
        if not path.is_file():
            height, width = preprocessing.height, preprocessing.width
            network = Network(name, height, width, 3, len(labels), function, None)
            convert_network(network, preprocessing, [], out, labels=labels)
        return path

    return make


@pytest.fixture(scope="module")
def right(make: Make) -> Path:
    """A model that always names the colour."""
    return make("right", lambda x: tf.nn.softmax(4 * means(x)))


@pytest.fixture(scope="module")
def bare_models(colour_network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The colour network as the converter gives it, without metadata: bare_fp32.tflite and bare_int16x8.tflite."""
    from edgeq.conversion.keras import freeze

    out = tmp_path_factory.mktemp("bare")
    chosen = choose_images(photos, COLOURS_INPUT, count=10)
    with quiet():
        frozen = freeze(open_network(colour_network))
        for form in ("fp32", "int16x8"):
            content = frozen.to_tflite(FORMATS[form], chosen, COLOURS_INPUT, lambda *_: None)
            (out / f"bare_{form}.tflite").write_bytes(content)
    return out


def without_times(result: Comparison) -> dict[str, Any]:
    document = result.to_json()
    for side in ("reference", "candidate"):
        del document[side]["latency_ms"]
    return document


class TestMeasures:
    def test_a_model_against_itself(self, colour_models: Path, photos: Path) -> None:
        path = colour_models / "colours_int8.tflite"
        result = compare(path, path, photos)
        assert (result.images, result.labelled, result.agreement) == (36, 36, 1.0)
        assert result.kl_mean == pytest.approx(0, abs=3e-6)
        assert result.l1_mean == 0
        assert result.sqnr_db == math.inf
        assert result.to_json()["sqnr_db"] is None
        assert (result.flips, result.classes, result.top1_drop, result.mcnemar_p) == ((), (), 0.0, 1.0)
        assert result.reference.sha256 == result.candidate.sha256

    def test_against_the_outputs_one_by_one(self, mobilenet_models: Path, photos: Path) -> None:
        """A network of random weights, which is unsure enough to flip."""
        paths = [mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8")]
        images = sorted(photos.rglob("*.jpg"))
        p, q = (np.array([Model(path).classify(image) for image in images]) for path in paths)
        winners = [[set(np.flatnonzero(row == row.max())) for row in outputs] for outputs in (p, q)]
        shared = [len(a & b) / (len(a) * len(b)) for a, b in zip(*winners, strict=True)]
        result = compare(paths[0], paths[1], photos)
        assert result.images == len(images) == 36
        assert result.agreement == pytest.approx(np.mean(shared))
        assert result.ties == sum(len(a) > 1 or len(b) > 1 for a, b in zip(*winners, strict=True))
        assert result.l1_mean == pytest.approx(np.abs(p - q).sum(axis=1).mean())
        floored = np.maximum(q, 1e-6)
        assert result.kl_mean == pytest.approx(np.mean((p * np.log(p / floored) - p + floored).sum(axis=1)))
        assert result.sqnr_db == pytest.approx(10 * math.log10((p**2).sum() / ((p - q) ** 2).sum()))
        assert result.flips  # there is something to get wrong
        flipped = [str(image) for image, share in zip(images, shared, strict=True) if share == 0]
        assert sorted(flip.file for flip in result.flips) == flipped
        top = q.argmax(axis=1)
        assert {each.index: each.images for each in result.predicted} == dict(Counter(top.tolist()))
        for each in result.predicted:
            assert each.share == each.images / 36
            assert each.mean_probability == pytest.approx(q[top == each.index].max(axis=1).mean())
        assert result.top_probabilities == tuple(np.histogram(q.max(axis=1), 20, (0, 1))[0].tolist())

    def test_a_candidate_that_confuses_two_classes(self, right: Path, make: Make, photos: Path) -> None:
        wrong = make("wrong", lambda x: tf.nn.softmax(4 * means(x)[:, ::-1]))  # blue is called red, and red blue
        result = compare(right, wrong, photos)
        assert (result.reference.top1, result.candidate.top1) == (1.0, pytest.approx(1 / 3))
        assert result.reference.top5 == result.candidate.top5 == 1.0
        assert result.agreement == pytest.approx(1 / 3)
        assert result.top1_drop == pytest.approx(2 / 3)
        low, high = result.top1_drop_ci95 or (0, 0)
        assert 0 < low < 2 / 3 < high < 1
        assert result.mcnemar_p == pytest.approx(2 * 0.5**24)
        assert result.agreement_ci95 == pytest.approx((0.2021, 0.4966), abs=1e-4)  # Wilson's, for 12 of 36
        assert len(result.flips) == 24
        assert {(f.label, f.reference, f.candidate) for f in result.flips} == {
            ("blue", "blue", "red"),
            ("red", "red", "blue"),
        }
        decidedness = [flip.reference_margin + flip.candidate_margin for flip in result.flips]
        assert decidedness == sorted(decidedness, reverse=True)
        for flip in result.flips:
            assert 0 < flip.reference_margin <= flip.reference_probability <= 1
            assert flip.candidate_margin == pytest.approx(flip.reference_margin, abs=1e-6)  # as the models mirror
        assert [(c.label, c.images, c.agreement) for c in result.classes] == [("blue", 12, 0.0), ("red", 12, 0.0)]
        assert {(c.reference_top1, c.candidate_top1) for c in result.classes} == {(1.0, 0.0)}

    def test_a_candidate_that_cannot_decide(self, right: Path, make: Make, photos: Path) -> None:
        result = compare(right, make("undecided", lambda x: tf.nn.softmax(0 * means(x))), photos)
        assert result.ties == 36
        assert result.candidate.top1 == pytest.approx(1 / 3)  # a tie of three is a third of a right answer
        assert result.agreement == pytest.approx(1 / 3)
        assert result.flips == ()  # undecided is not changed

    def test_a_better_candidate_has_a_negative_drop(self, right: Path, make: Make, photos: Path) -> None:
        wrong = make("wrong", lambda x: tf.nn.softmax(4 * means(x)[:, ::-1]))
        assert compare(wrong, right, photos).top1_drop == pytest.approx(-2 / 3)

    def test_without_known_classes(self, colour_models: Path, tmp_path: Path) -> None:
        for i, name in enumerate(("red", "blue", "green", "green")):
            colour_picture(name, seed=i).save(tmp_path / f"{i}.png")
        result = compare(colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite", tmp_path)
        assert (result.images, result.labelled, result.agreement) == (4, 0, 1.0)
        unknown = (result.reference.top1, result.reference.top5, result.candidate.top1, result.top1_drop)
        assert unknown == (None,) * 4
        assert (result.top1_drop_ci95, result.mcnemar_p) == (None, None)
        assert "no true classes are known, so accuracy is not measured" in result.notes


class TestDifferentModels:
    def test_other_pixel_ranges_are_each_model_s_own_business(self, right: Path, make: Make, photos: Path) -> None:
        scaled = Preprocessing(32, 32, *NORMALIZATIONS["0..255"], crop=1.0)
        other = make("scaled", lambda x: tf.nn.softmax(4 * means(x / 127.5 - 1)), preprocessing=scaled)
        result = compare(right, other, photos)
        assert result.l1_mean < 1e-5
        assert result.agreement == 1.0

    def test_other_sizes_too(self, right: Path, make: Make, photos: Path) -> None:
        other = make("larger", lambda x: tf.nn.softmax(4 * means(x)), preprocessing=Preprocessing(48, 48, crop=1.0))
        result = compare(right, other, photos)
        assert result.agreement == 1.0
        assert 0 < result.l1_mean < 0.05

    def test_logits_against_probabilities(self, right: Path, make: Make, photos: Path) -> None:
        logits = make("logits", lambda x: 4 * means(x))
        result = compare(right, logits, photos)
        assert result.kl_mean == pytest.approx(0, abs=1e-6)
        assert result.l1_mean < 1e-5

    def test_two_that_give_logits_are_measured_on_logits(self, make: Make, photos: Path) -> None:
        first = make("logits", lambda x: 4 * means(x))
        second = make("louder", lambda x: 4.4 * means(x))
        # The difference is a tenth of the signal: 20 dB, whatever softmax makes of it.
        assert compare(first, second, photos).sqnr_db == pytest.approx(20, abs=0.01)

    @pytest.mark.parametrize("background_first", [True, False], ids=["reference-has-it", "candidate-has-it"])
    def test_a_background_class_is_left_out(
        self, background_first: bool, right: Path, make: Make, photos: Path
    ) -> None:
        with_background = make(
            "background",
            lambda x: tf.nn.softmax(tf.concat([tf.constant([[-30.0]]), 4 * means(x)], axis=1)),
            ("background", *COLOURS),
        )
        models = (with_background, right) if background_first else (right, with_background)
        result = compare(models[0], models[1], photos)
        assert (result.reference.top1, result.candidate.top1, result.agreement) == (1.0, 1.0, 1.0)
        assert result.l1_mean < 1e-5
        assert f"left out class 0, background, of {with_background}" in result.notes
        first = 0 if background_first else 1  # among the candidate's own classes
        predicted = {each.index: (each.label, each.share) for each in result.predicted}
        assert predicted == {first + number: (name, 1 / 3) for number, name in enumerate(COLOURS)}

    def test_two_background_classes(self, make: Make, photos: Path) -> None:
        labels = ("background", *COLOURS)
        model = make(
            "background",
            lambda x: tf.nn.softmax(tf.concat([tf.constant([[-30.0]]), 4 * means(x)], axis=1)),
            labels,
        )
        result = compare(model, model, photos)
        assert (result.reference.top1, result.agreement) == (1.0, 1.0)

    def test_numbers_of_classes_that_do_not_go_together(
        self, colour_models: Path, mobilenet_models: Path, photos: Path
    ) -> None:
        with pytest.raises(InputError, match=r"has 3 classes, .* 10: they cannot be compared"):
            compare(
                colour_models / "colours_fp32.tflite", mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite", photos
            )


class TestNotes:
    """What a reader should know about a pair is said, and nothing else."""

    def test_a_pair_of_one_conversion(self, colour_models: Path, photos: Path) -> None:
        pair = colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite"
        assert compare(*pair, photos).notes == ("true classes from the sub-folders, by the models' labels",)

    def test_the_wrong_way_round(self, colour_models: Path, photos: Path) -> None:
        pair = colour_models / "colours_int8.tflite", colour_models / "colours_fp32.tflite"
        assert any("are they the wrong way round?" in note for note in compare(*pair, photos).notes)

    def test_a_candidate_of_another_reference(
        self, colour_models: Path, mobilenet_models: Path, photos: Path, tmp_path: Path
    ) -> None:
        other = tmp_path / "other.tflite"
        other.write_bytes((colour_models / "colours_fp32.tflite").read_bytes() + b"\0")
        result = compare(other, colour_models / "colours_int8.tflite", photos)
        assert any("was not made from this reference" in note for note in result.notes)

    def test_other_names_for_the_classes(self, right: Path, make: Make, photos: Path) -> None:
        renamed = make("renamed", means, labels=("azure", "lime", "scarlet"))
        assert any("class names differ" in note for note in compare(right, renamed, photos).notes)


class TestNormalization:
    @pytest.mark.parametrize("bare_first", [True, False], ids=["reference", "candidate"])
    def test_is_borrowed_from_the_partner(
        self, bare_first: bool, bare_models: Path, colour_models: Path, photos: Path
    ) -> None:
        """As for a float file of another converter beside its integer one, which tells."""
        bare, ours = bare_models / "bare_fp32.tflite", colour_models / "colours_int8.tflite"
        with pytest.raises(UnknownNormalizationError):
            Model(bare)
        result = compare(*((bare, ours) if bare_first else (ours, bare)), photos)
        assert f"took the normalization of {bare} from {ours}" in result.notes
        assert (result.agreement, result.reference.top1, result.candidate.top1) == (1.0, 1.0, 1.0)
        twin = compare(colour_models / "colours_fp32.tflite", ours, photos)
        assert result.l1_mean == pytest.approx(twin.l1_mean, abs=1e-6)

    def test_cannot_be_borrowed_where_neither_knows(self, bare_models: Path, photos: Path) -> None:
        with pytest.raises(UnknownNormalizationError, match="give --normalize"):
            compare(bare_models / "bare_fp32.tflite", bare_models / "bare_int16x8.tflite", photos)


class TestImages:
    def test_unreadable_files_are_skipped_with_the_reason(
        self, colour_models: Path, photos: Path, tmp_path: Path
    ) -> None:
        shutil.copytree(photos, tmp_path / "photos")
        bad, text = tmp_path / "photos" / "red" / "bad.jpg", tmp_path / "photos" / "blue" / "text.png"
        bad.write_bytes((photos / "red" / "00.jpg").read_bytes()[:400])
        text.write_text("not a photo")
        for name in ("notes.txt", "blue/labels.csv"):
            (tmp_path / "photos" / name).write_text("of no interest")
        models = [colour_models / f"colours_{form}.tflite" for form in ("fp32", "int8")]
        result = compare(models[0], models[1], tmp_path / "photos")
        assert result.images == 36
        assert [file for file, _ in result.skipped] == [str(text), str(bad)]
        assert result.skipped[0][1] == "not an image that Pillow can read"
        assert "truncated" in result.skipped[1][1].lower()
        good, with_bad = without_times(compare(models[0], models[1], photos)), without_times(result)
        assert sorted(with_bad["notes"]) == sorted([*good["notes"], "skipped 2 files that are not images"])
        for key in set(good) - {"skipped", "flips", "notes"}:
            assert with_bad[key] == good[key]

    def test_none_readable(self, colour_models: Path, tmp_path: Path) -> None:
        for i in range(3):
            (tmp_path / f"{i}.jpg").write_bytes(b"no")
        with pytest.raises(InputError, match="none of its 3 images can be read"):
            compare(colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite", tmp_path)

    def test_the_labels_file_decides_what_is_compared(self, colour_models: Path, photos: Path, tmp_path: Path) -> None:
        for name in ("red", "blue"):
            shutil.copy(photos / name / "00.jpg", tmp_path / f"{name}.jpg")
        (tmp_path / "labels.csv").write_text("red.jpg,2\nblue.jpg,2\n")
        result = compare(colour_models / "colours_fp32.tflite", colour_models / "colours_int8.tflite", tmp_path)
        assert (result.images, result.reference.top1) == (2, 0.5)
        assert "true classes from labels.csv" in result.notes


class TestCalibrationImages:
    def test_are_counted_where_they_are_compared_on(self, colour_network: Path, photos: Path, tmp_path: Path) -> None:
        """Whatever they are called and wherever they lie by then."""
        chosen = choose_images(photos, COLOURS_INPUT, count=12)
        network = open_network(colour_network)
        convert_network(network, COLOURS_INPUT, ["int8"], tmp_path, calibration=chosen)
        models = [tmp_path / f"colours_{form}.tflite" for form in ("fp32", "int8")]
        assert compare(models[0], models[1], photos).calibration_overlap == 12
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        unseen = sorted(set(photos.rglob("*.jpg")) - set(chosen.files))
        for i, path in enumerate([*chosen.files[:3], *unseen[:5]]):
            shutil.copy(path, elsewhere / f"{i}.jpeg")
        assert compare(models[0], models[1], elsewhere).calibration_overlap == 3


class TestResult:
    def test_the_json_has_what_its_readers_look_for(self, colour_models: Path, photos: Path) -> None:
        paths = [colour_models / f"colours_{form}.tflite" for form in ("fp32", "int8")]
        document = json.loads(json.dumps(compare(paths[0], paths[1], photos).to_json(), allow_nan=False))
        assert {
            *("images", "reference", "candidate", "agreement", "agreement_ci95", "top1_drop"),
            *("kl_mean", "l1_mean", "sqnr_db", "flips"),
        } <= set(document)
        for side, path in zip(("reference", "candidate"), paths, strict=True):
            assert {"path", "top1", "top5", "latency_ms", "size_bytes"} <= set(document[side])
            assert document[side]["path"] == str(path)
            assert (document[side]["top1"], document[side]["top5"]) == (1.0, 1.0)
            assert document[side]["size_bytes"] == path.stat().st_size
            assert 0 < document[side]["latency_ms"] < 1000
        assert (document["images"], document["agreement"], document["top1_drop"]) == (36, 1.0, 0.0)
        assert document["agreement_ci95"] == pytest.approx([0.9036, 1.0], abs=1e-4)  # 1 / (1 + z^2 / 36)
        assert document["sqnr_db"] > 30
        assert document["flips"] == []

    def test_it_is_the_same_however_many_work_on_it(self, mobilenet_models: Path, photos: Path) -> None:
        paths = [mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8")]
        one, *more = (without_times(compare(paths[0], paths[1], photos, workers=workers)) for workers in (1, 2, 5))
        assert all(other == one for other in more)
        assert one["l1_mean"] > 0  # there is something to get wrong

    def test_progress_is_told_of_every_image(self, colour_models: Path, photos: Path) -> None:
        path, calls = colour_models / "colours_int8.tflite", []
        compare(path, path, photos, progress=lambda *call: calls.append(call))
        assert calls == [("Comparing", done, 36) for done in range(1, 37)]


def test_a_candidate_that_a_backend_runs(right: Path, make: Make, photos: Path) -> None:
    """Its outputs, times and runtime are those of the backend, whatever the same file would do in this process."""
    wrong = Model(make("darkest", lambda x: tf.nn.softmax(-4 * means(x))))

    class Kitchen(Backend):
        name = "the kitchen"

        def ask(self, do: str, payload: bytes = b"", **request: Any) -> Any:
            raise AssertionError(do)

        def run(self, tensor: np.ndarray) -> np.ndarray:
            self.runtime = "a runtime 1.0"
            self.times_ms.append(5.0 + len(self.times_ms) % 3)
            return wrong.invoke(tensor)

    backend = Kitchen(str(right), None, 1, "default")
    result = compare(right, right, photos, on=backend, workers=1)
    assert (result.reference.top1, result.candidate.top1, result.agreement) == (1, 0, 0)
    assert len(backend.times_ms) == result.images
    assert result.candidate.latency_ms == 6
    assert result.candidate.runtime == "a runtime 1.0 on the kitchen"
    assert result.reference.runtime.startswith(wrong.runtime)


def test_a_candidate_on_another_backend(right: Path, make: Make, photos: Path) -> None:
    """Its outputs are the backend's, whatever the same file would do here."""
    wrong = make("darkest", lambda x: tf.nn.softmax(-4 * means(x)))
    model = Model(right)
    photo = next(photos.rglob("*.jpg"))
    with WorkerBackend(wrong) as backend:
        outputs = Pair(model, Model(right), backend).run(NamedImage(str(photo)))
    assert np.array_equal(outputs.reference, model.classify(photo))
    assert np.array_equal(outputs.candidate, Model(wrong).classify(photo))
    assert outputs.reference.argmax() != outputs.candidate.argmax()
    assert len(backend.times_ms) == 1


def test_a_device_is_contacted_last(right: Path, photos: Path, tmp_path: Path) -> None:
    """And not for a comparison that cannot be made anyway."""
    with pytest.raises(InputError, match="no such folder"):
        compare(right, right, tmp_path / "missing", on="pi@127.0.0.1:9")
    with pytest.raises(DeviceError, match=r"pi@127\.0\.0\.1:9: cannot be reached"):
        compare(right, right, photos, on="pi@127.0.0.1:9")


def test_layers_that_do_not_correspond(right: Path, colour_models: Path, photos: Path) -> None:
    """They are an error only where they were asked for."""
    other = colour_models / "colours_int8.tflite"
    with pytest.raises(InputError, match="do not correspond"):
        compare(right, other, photos, layers=True)
    result = compare(right, other, photos, layers="auto")
    assert result.layers is None
    assert "do not correspond" in result.notes[-1]
    same = compare(right, right, photos, layers="auto", layer_images=2)
    assert same.layers is not None


class TestFailures:
    def test_a_model_that_is_not_there(self, colour_models: Path, photos: Path, tmp_path: Path) -> None:
        good = colour_models / "colours_int8.tflite"
        for models in ((tmp_path / "no.tflite", good), (good, tmp_path / "no.tflite")):
            with pytest.raises(ModelError, match="no such model file"):
                compare(models[0], models[1], photos)

    def test_a_model_that_fails_when_it_runs(self, shared: Path, photos: Path) -> None:
        path = shared / "models" / "coral" / "model_invoking_error.tflite"
        with pytest.raises((InputError, ModelError), match="model_invoking_error"):
            compare(path, path, photos)


PEAK = """
import re, sys
from pathlib import Path
from edgeq.comparison import compare
assert compare(*sys.argv[1:], workers=2).images == int(sys.argv[3].rpartition("_")[2])
# Not getrusage's ru_maxrss: it starts at the peak of the process that started this one.
print(int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1]) / 1024)
"""


@pytest.mark.accept
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="reads the peak memory from /proc")
def test_memory_does_not_grow_with_the_number_of_images(mobilenet_models: Path, tmp_path: Path) -> None:
    """Ten times the images, whose pixels alone would be 150 MB if anything held on to them."""
    rng = np.random.default_rng(0)
    picture = tmp_path / "picture.bmp"  # not reduced while it is decoded, as JPEGs are
    Image.fromarray(rng.integers(0, 256, (320, 360, 3), np.uint8)).save(picture)
    models = [mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8")]
    peaks_mb = {}
    for count in (50, 500):
        folder = tmp_path / f"images_{count}"
        folder.mkdir()
        for i in range(count):
            (folder / f"{i:03}.bmp").symlink_to(picture)
        done = subprocess.run(
            [sys.executable, "-c", PEAK, *map(str, models), str(folder)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        peaks_mb[count] = float(done.stdout)
    assert peaks_mb[500] < peaks_mb[50] + 8
