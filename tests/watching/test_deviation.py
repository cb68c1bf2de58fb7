"""What a camera sees beside the photos of a comparison: a covered camera is noticed, a normal one is not."""

from __future__ import annotations

import json
import queue
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import COLOURS, ROOT, Finished

import edgeq as package
from edgeq.classification import Prediction, class_names, top_predictions
from edgeq.errors import InputError
from edgeq.watching import Expected, read_expected
from edgeq.watching.deviation import PERIOD_S, DeviationDetector
from edgeq.watching.expected import ExpectedLabel
from edgeq.watching.picture import jpeg_bytes
from edgeq.watching.tally import Tally
from watching.web import jpeg, observed

Frame = Callable[[np.random.Generator], npt.NDArray[np.uint8]]
BLIND: dict[str, Frame] = {
    "black": lambda rng: np.zeros((120, 160, 3), np.uint8),
    "dark, with noise": lambda rng: rng.normal(2, 3, (120, 160, 3)).clip(0, 255).astype(np.uint8),
    "behind a finger": lambda rng: rng.normal((60, 15, 8), 4, (120, 160, 3)).clip(0, 255).astype(np.uint8),
    "white": lambda rng: np.full((120, 160, 3), 250, np.uint8),
}
START = 1_790_000_000.0


@pytest.fixture(scope="module")
def drift(colour_models: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What edgeq compare --json writes of the colour network."""
    path = tmp_path_factory.mktemp("drift") / "drift.json"
    fp32, int8 = (colour_models / f"colours_{form}.tflite" for form in ("fp32", "int8"))
    path.write_text(json.dumps(package.compare(fp32, int8, photos).to_json()))
    return path


@pytest.fixture
def model(colour_models: Path) -> package.Model:
    return package.Model(colour_models / "colours_int8.tflite")


@pytest.fixture
def expected(drift: Path, model: package.Model) -> Expected:
    return read_expected(drift, model, model.labels)


def best(model: package.Model, image: Any) -> Prediction:
    return top_predictions(model.classify(image), model.labels, 1)[0]


def hours_until_noticed(expected: Expected, frames: Iterable[Prediction], each_s: float) -> tuple[float, str]:
    """Show frames, each for a time, until a deviation is found; when, and what. Infinite and empty if none is."""
    detector = DeviationDetector(expected)
    for number, prediction in enumerate(frames):
        detector.add(observed(1, time=START + number * each_s, predictions=(prediction,)))
        if detector.found:
            return number * each_s / 3600, detector.found.reason
    return np.inf, ""


class TestColours:
    """With the network of the tests, which says 0.33 of each class where there is no colour."""

    def test_black_frames_are_noticed_and_the_photos_are_not(
        self, expected: Expected, model: package.Model, photos: Path
    ) -> None:
        black = best(model, np.zeros((48, 48, 3), np.uint8))
        assert black.probability == pytest.approx(0.33, abs=0.01)
        hours, reason = hours_until_noticed(expected, [black] * 1000, 10)
        assert hours == 1.5
        assert reason == (
            "For 90 minutes, the model was unsure: its mean probability was at most 33 %, but 89 % on the photos. "
            "Is the camera covered, moved or out of focus?"
        )
        seen = [best(model, path) for path in sorted(photos.rglob("*.jpg"))]
        shown = np.random.default_rng(0).integers(len(seen), size=6 * 24 * 90)
        assert hours_until_noticed(expected, (seen[i] for i in shown), 600) == (np.inf, "")  # in 90 days

    def test_one_label_takes_longer_the_more_photos_have_it(self, expected: Expected) -> None:
        hours, reason = hours_until_noticed(expected, [Prediction(2, "red", 0.9)] * 10_000, 10)
        assert hours == 4.0  # 13 of 37 photos, to the power of 7: 1 in 1,500
        assert reason.startswith('For 4.0 hours, at least 95 % of the frames were classified as "red", but only 12 of')

    def test_few_frames_and_short_times_prove_nothing(self, expected: Expected) -> None:
        black = Prediction(0, "blue", 0.33)
        assert hours_until_noticed(expected, [black] * 10_000, 0.5)[1] == ""  # 83 minutes
        assert hours_until_noticed(expected, [black] * 3, 5 * PERIOD_S)[1] == ""
        assert hours_until_noticed(expected, [black] * 4, 5 * PERIOD_S)[1] != ""  # photos that come rarely

    def test_it_ends_when_the_camera_sees_again(self, expected: Expected) -> None:
        detector = DeviationDetector(expected)
        said = []
        for number in range(8):
            frame = Prediction(0, "blue", 0.33) if number < 4 else Prediction(number % 3, "blue", 0.9)
            detector.add(observed(number, time=number * PERIOD_S, predictions=(frame,)))
            said.append(detector.found is not None)
        assert said == [False, False, False, True, True, False, False, False]

    def test_a_clock_that_is_set_back_begins_a_new_period(self, expected: Expected) -> None:
        detector = DeviationDetector(expected)
        for number in range(200):
            detector.add(observed(number, time=(200 - number) * PERIOD_S, predictions=(Prediction(0, "blue", 0.33),)))
        assert detector.found is None


def test_real_cameras_that_are_blind(shared: Path) -> None:
    """MobileNetV2 on photos of ImageNet's classes: it finds something in every frame, and is sometimes sure of it."""
    model = package.Model(shared / "models" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    photos = sorted((shared / "data" / "imagenet_samples").glob("*.jpg"))[::4]
    seen = [best(model, path) for path in photos]
    by_label = {label: [each.probability for each in seen if each.label == label] for label in {e.label for e in seen}}
    bins = np.histogram([each.probability for each in seen], 20, (0, 1))[0]
    expected = Expected(
        len(seen),
        float(np.mean([each.probability for each in seen])),
        {label: ExpectedLabel(len(found), float(np.mean(found))) for label, found in by_label.items()},
        tuple(bins.tolist()),
        model.classes,
    )
    rng = np.random.default_rng(0)
    for name, frame in BLIND.items():
        frames = [best(model, frame(rng)) for _ in range(3)]
        hours, reason = hours_until_noticed(expected, frames * 1000, 10)
        assert hours <= 2.5, (name, frames)
        assert reason.endswith("Is the camera covered, moved or out of focus?")
    shown = rng.integers(len(seen), size=6 * 24 * 30)
    assert hours_until_noticed(expected, (seen[i] for i in shown), 600) == (np.inf, "")  # in 30 days


class TestReading:
    def test_what_it_says(self, expected: Expected) -> None:
        assert (expected.images, expected.classes) == (36, 3)
        assert {label: expected.images_of(label) for label in (*COLOURS, "grey")} == dict.fromkeys(COLOURS, 12) | {
            "grey": 0
        }
        assert expected.chance_of_label("grey") == 1 / 37
        assert expected.chance_of_less(1.0) == 1.0
        assert expected.chance_of_less(0.2) == 1 / 37

    def test_a_model_without_labels_and_two_classes_of_one_name(
        self, drift: Path, model: package.Model, tmp_path: Path
    ) -> None:
        document = json.loads(drift.read_text())
        assert set(read_expected(drift, model.path, class_names((), 3)).labels) == {"0", "1", "2"}
        document["predicted"][0]["label"] = document["predicted"][1]["label"]
        (tmp_path / "one.json").write_text(json.dumps(document))
        indices = [each["index"] for each in document["predicted"]]
        names = [""] * 3
        for each in document["predicted"]:
            names[each["index"]] = each["label"]
        found = read_expected(tmp_path / "one.json", model, names)
        assert indices == [0, 1, 2]
        assert {label: each.images for label, each in found.labels.items()} == {"green": 24, "red": 12}

    @pytest.mark.parametrize(
        ("change", "said"),
        [
            ({"candidate": {"sha256": "0" * 64, "path": "other.tflite"}}, "is of another model, other.tflite; run"),
            ({"task": "tensors"}, "compares plain tensors, not labels of images; run edgeq compare --json"),
            ({"places": []}, "compares one model on several runtimes or boards, not two models; run"),
            ({"agreement": None}, "was not written by edgeq compare --json; run"),
            ({"predicted": None}, "was written by an older edgeq, without what the model predicted; run"),
            ({"top_probabilities": None}, "was written by an older edgeq, without what the model predicted; run"),
            ({"top_probabilities": [36] * 20}, "is damaged; run"),
            ({"predicted": [{"index": 7, "label": "red", "images": 36, "mean_probability": 1}]}, "is damaged; run"),
            ({"predicted": [{"index": 2, "label": "red", "images": 36, "mean_probability": 7}]}, "is damaged; run"),
            ({"predicted": "many"}, "is damaged; run"),
            ({"predicted": []}, "is damaged; run"),
            ({"candidate": []}, "is of another model, unknown; run"),
        ],
    )
    def test_other_files(
        self, change: dict[str, Any], said: str, drift: Path, model: package.Model, tmp_path: Path
    ) -> None:
        document = json.loads(drift.read_text()) | change
        path = tmp_path / "other.json"
        path.write_text(json.dumps({key: value for key, value in document.items() if value is not None}))
        with pytest.raises(InputError) as caught:
            read_expected(path, model, model.labels)
        assert str(caught.value).startswith(f"{path}: {said}")
        assert "\n" not in str(caught.value)

    def test_no_file_and_no_json(self, drift: Path, model: package.Model, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"none\.json: cannot be read \(No such file"):
            read_expected(tmp_path / "none.json", model, model.labels)
        with pytest.raises(InputError, match=r"m\.tflite: cannot be read \(No such file"):
            read_expected(drift, tmp_path / "m.tflite", model.labels)
        for content in (b"no JSON", b"\xff", b"[" * 100_000, b"[]", b"7"):
            (tmp_path / "x.json").write_bytes(content)
            with pytest.raises(InputError, match=r"x\.json: (is not JSON|was not written by edgeq compare)"):
                read_expected(tmp_path / "x.json", model, model.labels)

    def test_other_labels(self, drift: Path, model: package.Model) -> None:
        with pytest.raises(InputError, match="calls class 0 'blue', not 'bleu'; give the same --labels"):
            read_expected(drift, model, ("bleu", "vert", "rouge"))


def test_the_summary_beside_the_photos(expected: Expected) -> None:
    tally = Tally(expected)
    empty = tally.to_json()["expected"]
    assert (empty["mean_probability"], empty["deviation"], empty["images"]) == (None, None, 36)
    assert [(each["label"], each["frames"], each["mean_probability"]) for each in empty["labels"]] == [
        (label, 0, None) for label in COLOURS
    ]
    for number in range(4):
        black = Prediction(0, "blue", 0.33)
        tally.add(observed(number, None, time=number * PERIOD_S, predictions=(black,), probability=0.33))
    summary = tally.to_json()
    assert summary["labels"] == [{"label": None, "frames": 4, "mean_probability": 0.33}]
    found = summary["expected"]
    assert found["mean_probability"] == 0.33
    assert found["expected_mean_probability"] == pytest.approx(0.89, abs=0.01)
    assert found["labels"][0] == {
        "label": "blue",
        "frames": 4,
        "mean_probability": 0.33,
        "share": 1.0,
        "expected_share": 0.333333,
        "expected_mean_probability": pytest.approx(0.9, abs=0.01),
    }
    assert [each["label"] for each in found["labels"]] == ["blue", "green", "red"]
    assert found["deviation"]["since"] == 0.0
    assert found["deviation"]["until"] == 2 * PERIOD_S
    assert len(tally.to_json(1)["expected"]["labels"]) == 1


SHORT_PERIODS = "from edgeq.watching import deviation; deviation.PERIOD_S = 1e-6; from edgeq.cli import main; main()"


class TestCommand:
    def test_a_camera_that_is_covered_and_uncovered(self, drift: Path, model: package.Model) -> None:
        """A period is so short here that each frame begins a new one."""
        command = [sys.executable, "-c", SHORT_PERIODS, "watch", "-", "--model", str(model.path)]
        command += ["--expect", str(drift), "--window", "1"]
        found = []
        for options in (["--json", "--events"], []):
            with subprocess.Popen(
                [*command, *options], cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=False
            ) as process:
                found.append(self.cover_and_uncover(process))
        (covered, uncovered, summary), texts = found
        assert json.loads(covered)["deviation"]["reason"].startswith("For 0 minutes, the model was unsure: its mean")
        assert json.loads(uncovered)["deviation"] is None
        beside = json.loads(summary)["expected"]
        assert beside["deviation"] is None
        assert {each["label"] for each in beside["labels"]} == set(COLOURS)
        assert sum(each["frames"] for each in beside["labels"]) == json.loads(summary)["frames"]
        assert texts[0][10:].startswith("For 0 minutes, the model was unsure: its mean")
        assert texts[1][10:] == "What the camera sees is no longer unlike the photos."

    @staticmethod
    def cover_and_uncover(process: subprocess.Popen[bytes]) -> list[str]:
        """Send black frames until it says so, then red ones until it says so; return both lines, and the last one."""
        lines: queue.SimpleQueue[str] = queue.SimpleQueue()
        assert process.stdin
        output = process.stdout
        assert output

        def read() -> None:
            for line in output:
                lines.put(line.decode().strip())

        reader = threading.Thread(target=read)
        reader.start()
        said = []
        for frame in (jpeg_bytes(np.zeros((48, 48, 3), np.uint8)), jpeg("red")):
            deadline = time.monotonic() + 30
            while time.monotonic() < deadline:
                process.stdin.write(frame)
                process.stdin.flush()
                time.sleep(0.02)
                new = [lines.get() for _ in range(lines.qsize())]
                if changed := [line for line in new if "deviation" in line or "unsure: " in line or "unlike" in line]:
                    said += changed
                    break
        process.stdin.close()
        reader.join(20)
        return [*said, *[lines.get() for _ in range(lines.qsize())][-1:]]

    def test_another_model(
        self, edgeq: Callable[..., Finished], drift: Path, colour_models: Path, tmp_path: Path
    ) -> None:
        other = colour_models / "colours_fp32.tflite"
        done = edgeq("watch", tmp_path, "--model", other, "--expect", drift)
        assert done.code == 2
        assert done.err.startswith(f"Error: {drift}: is of another model, ")
        assert done.err.count("\n") == 1
