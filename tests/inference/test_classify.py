"""Classifying from Python: whatever an image comes as, one or many, on this host."""

from __future__ import annotations

import io
import itertools
import os
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator
from pathlib import Path

import numpy as np
import pytest
from conftest import COLOURS, ROOT, colour_picture
from PIL import Image

import edgeq
from edgeq import Classification, Model, Overrides, classify, classify_all, top_predictions
from edgeq.errors import ImageError, InputError, ModelError
from edgeq.images import Source


@pytest.fixture(scope="module")
def path(colour_models: Path) -> Path:
    return colour_models / "colours_int8.tflite"


@pytest.fixture(scope="module")
def model(path: Path) -> Model:
    return Model(path)


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """0_blue.png, 1_green.png, 2_red.png."""
    folder = tmp_path_factory.mktemp("pictures")
    for number, name in enumerate(COLOURS):
        colour_picture(name, seed=700 + number).save(folder / f"{number}_{name}.png")
    return folder


@pytest.fixture
def green(pictures: Path) -> Path:
    return pictures / "1_green.png"


def best(results: Iterator[Classification]) -> list[str]:
    return [result.predictions[0].label for result in results]


def decoding_threads() -> int:
    return sum(type(thread).__module__ == "edgeq.inference.classify" for thread in threading.enumerate())


KINDS: dict[str, Callable[[Path], Source]] = {
    "path": lambda path: path,
    "text": str,
    "bytes": Path.read_bytes,
    "stream": lambda path: io.BytesIO(path.read_bytes()),
    "picture": lambda path: Image.open(path).convert("RGB"),
    "array": lambda path: np.asarray(Image.open(path)),
    "a view of an array": lambda path: np.asarray(Image.open(path))[:, :, ::-1][:, :, ::-1],
}


class TestOne:
    @pytest.mark.parametrize("kind", KINDS)
    def test_whatever_it_comes_as(self, kind: str, green: Path, path: Path, model: Model) -> None:
        expected = tuple(top_predictions(model.classify(green), model.labels, 2))
        for given in (path, str(path), model):
            found = classify(KINDS[kind](green), given, top=2)
            assert found.predictions == expected
            assert found.file == (str(green) if kind in ("path", "text") else "image")
            assert (found.device, found.error) == (None, None)
            assert set(found.times_ms) == {"decode", "preprocess", "invoke"}
            assert all(0 <= ms < 10_000 for ms in found.times_ms.values())

    def test_a_frame_of_another_library(self, model: Model) -> None:
        """OpenCV's channels are in the reverse order, so the array's strides are negative."""
        frame = np.asarray(colour_picture("red", seed=1))[:, :, ::-1]
        assert classify(frame, model).predictions[0].label == "blue"
        assert classify(frame[:, :, ::-1], model).predictions[0].label == "red"

    @pytest.mark.parametrize(
        "array",
        [
            np.zeros((8, 8, 3), np.float32),
            np.zeros((8, 8, 3), np.int64),
            np.zeros((3, 8, 8), np.uint8),
            np.zeros((1, 8, 8, 3), np.uint8),
        ],
        ids=lambda array: f"{array.dtype} of {array.shape}",
    )
    def test_an_array_that_is_no_picture(self, array: np.ndarray, model: Model) -> None:
        with pytest.raises(ImageError, match=r"(?s)array of shape.*uint8 of shape \(height, width, 3\), RGB") as error:
            classify(array, model)
        assert str(array.dtype) in str(error.value)

    def test_a_damaged_one_is_an_exception(self, green: Path, tmp_path: Path, path: Path, model: Model) -> None:
        bad = tmp_path / "bad.png"
        bad.write_bytes(green.read_bytes()[:300])
        for given in (path, model):
            with pytest.raises(ImageError, match=r"bad\.png"):
                classify(bad, given)

    def test_a_folder_is_no_image(self, pictures: Path, model: Model) -> None:
        with pytest.raises(ImageError, match="is a folder, not an image"):
            classify(pictures, model)

    def test_a_model_that_is_not_there(self, green: Path, tmp_path: Path) -> None:
        with pytest.raises(ModelError, match=r"no\.tflite: no such model file"):
            classify(green, tmp_path / "no.tflite")

    @pytest.mark.parametrize("options", [{"threads": 2}, {"kernels": "reference"}, {"overrides": Overrides(crop=0.5)}])
    def test_options_that_a_loaded_model_cannot_take(self, options: dict, green: Path, model: Model) -> None:
        with pytest.raises(InputError, match=r"colours_int8\.tflite: is loaded already"):
            classify(green, model, **options)

    def test_what_the_caller_knows_better(self, green: Path, path: Path) -> None:
        labels = tuple("abc")
        assert classify(green, path, overrides=Overrides(labels=labels)).predictions[0].label == "b"
        swapped = Overrides(channels="BGR")
        red = colour_picture("red", seed=1)
        assert classify(red, path, overrides=swapped).predictions[0].label == "blue"

    def test_kernels_and_runtime(self, green: Path, path: Path) -> None:
        found = [classify(green, path, runtime=name, kernels="reference") for name in ("ai-edge-litert", "tensorflow")]
        assert found[0].predictions == found[1].predictions


class TestMany:
    def test_a_folder_a_pattern_and_a_file(self, pictures: Path, path: Path) -> None:
        assert best(classify_all(pictures, path)) == list(COLOURS)
        assert best(classify_all(str(pictures), path)) == list(COLOURS)
        assert best(classify_all(f"{pictures}/*d.png", path)) == ["red"]
        assert best(classify_all(pictures / "0_blue.png", path)) == ["blue"]

    def test_all_kinds_in_one_list(self, pictures: Path, green: Path, model: Model) -> None:
        images: list[Source] = [pictures, *(make(green) for make in KINDS.values()), str(pictures / "0_*.png")]
        results = list(classify_all(images, model))
        assert best(iter(results)) == [*COLOURS, *["green"] * len(KINDS), "blue"]
        assert [result.file for result in results][:3] == [str(file) for file in sorted(pictures.iterdir())]

    def test_none(self, path: Path) -> None:
        assert list(classify_all([], path)) == []

    def test_an_array_of_pictures(self, pictures: Path, model: Model) -> None:
        batch = np.stack([np.asarray(Image.open(file)) for file in sorted(pictures.iterdir())])
        assert best(classify_all(batch, model)) == list(COLOURS)

    def test_a_damaged_one_in_the_middle(self, pictures: Path, green: Path, tmp_path: Path, path: Path) -> None:
        bad = tmp_path / "bad.png"
        bad.write_bytes(green.read_bytes()[:300])
        missing = tmp_path / "missing.png"
        first, second, third, last = classify_all([pictures / "2_red.png", bad, missing, green], path)
        assert [first.predictions[0].label, last.predictions[0].label] == ["red", "green"]
        for result, file in ((second, bad), (third, missing)):
            assert (result.file, result.predictions, result.times_ms) == (str(file), (), {})
            assert isinstance(result.error, ImageError)
            assert str(result.error).startswith(f"{file}: ")
            assert result.to_json() == {"file": str(file), "error": str(result.error).removeprefix(f"{file}: ")}

    def test_an_empty_folder(self, green: Path, tmp_path: Path, path: Path) -> None:
        results = classify_all([green, tmp_path], path)
        assert next(results).error is None
        with pytest.raises(InputError, match="holds no images"):
            next(results)

    def test_a_model_that_does_not_say_how_its_input_is_normalized(
        self, pictures: Path, colour_models: Path, tmp_path: Path
    ) -> None:
        content = (colour_models / "colours_fp32.tflite").read_bytes()
        bare = tmp_path / "bare.tflite"
        bare.write_bytes(content.replace(b"TFLITE_METADATA", b"SOMETHING_ELSE_").partition(b"PK\x03\x04")[0])
        known = Overrides(normalization=((127.5,), (127.5,)), labels=tuple(COLOURS))
        assert best(classify_all(pictures, bare, overrides=known)) == list(COLOURS)

    def test_in_json(self, green: Path, model: Model) -> None:
        (result,) = classify_all([green], model, top=1)
        (prediction,) = result.predictions
        assert result.to_json() == {
            "file": str(green),
            "predictions": [{"index": 1, "label": "green", "probability": prediction.probability}],
            "times_ms": result.times_ms,
        }


class TestAhead:
    def test_a_result_does_not_wait_for_the_next_image(self, model: Model) -> None:
        """As of a camera that sees something once an hour."""
        seen = threading.Event()

        def images() -> Iterator[Source]:
            yield colour_picture("red", seed=1)
            assert seen.wait(30)
            yield colour_picture("blue", seed=1)

        results = classify_all(images(), model)
        assert next(results).predictions[0].label == "red"
        seen.set()
        assert best(results) == ["blue"]

    def test_one_image_ahead_and_no_more(self, model: Model) -> None:
        taken: list[int] = []

        def images() -> Iterator[Source]:
            for number in itertools.count():
                taken.append(number)
                yield colour_picture("red", seed=number)

        results = classify_all(images(), model)
        for count in (1, 2, 3):
            next(results)
            deadline = time.monotonic() + 20
            while len(taken) <= count and time.monotonic() < deadline:
                time.sleep(0.01)
            time.sleep(0.05)
            assert len(taken) == count + 1

    def test_closing_ends_the_thread(self, model: Model) -> None:
        running = False

        def images() -> Generator[Source, None, None]:
            nonlocal running
            while True:
                running = True
                time.sleep(0.05)
                running = False
                yield colour_picture("red", seed=1)

        generator = images()
        results = classify_all(generator, model)
        next(results)
        assert decoding_threads() == 1
        results.close()
        assert (decoding_threads(), running) == (0, False)
        generator.close()  # nobody uses it any more

    def test_leaving_a_loop_ends_the_thread(self, pictures: Path, model: Model) -> None:
        for _ in classify_all([pictures] * 50, model):
            break
        assert decoding_threads() == 0

    def test_an_end_that_does_not_come_does_not_hold_up_closing(self, model: Model) -> None:
        ended = threading.Event()

        def images() -> Iterator[Source]:
            yield colour_picture("red", seed=1)
            ended.wait(30)

        results = classify_all(images(), model)
        next(results)
        start = time.monotonic()
        results.close()
        assert time.monotonic() - start < 10
        ended.set()

    @pytest.mark.parametrize("error", [ValueError, ImageError, SystemExit, KeyboardInterrupt])
    def test_what_the_source_of_images_raises(self, error: type[BaseException], green: Path, model: Model) -> None:
        def images() -> Iterator[Source]:
            yield green
            raise error("the camera fell off")

        results = classify_all(images(), model)
        assert next(results).predictions[0].label == "green"
        with pytest.raises(error, match="the camera fell off"):
            next(results)
        assert list(results) == []

    def test_nothing_happens_before_it_is_asked_for(self, tmp_path: Path) -> None:
        results = classify_all([tmp_path / "no.jpg"], tmp_path / "no.tflite")
        assert decoding_threads() == 0
        with pytest.raises(ModelError):
            next(results)


DURING_LOADING = """
import sys, time
import edgeq

def images():
    deadline = time.monotonic() + 20
    while "edgeq.runtime.model" not in sys.modules and time.monotonic() < deadline:
        time.sleep(0.001)
    print("edgeq.runtime.model" in sys.modules)
    yield sys.argv[1]

(result,) = edgeq.classify_all(images(), sys.argv[2])
print(result.predictions[0].label)
"""
NO_MAIN = """
import sys
import edgeq

image, folder, reference, candidate = sys.argv[1:]
print(edgeq.classify(image, candidate).predictions[0].label)
print(len(list(edgeq.classify_all(folder, candidate))))
print(edgeq.compare(reference, candidate, folder, workers=2).agreement)
"""


@pytest.mark.parametrize(
    ("script", "said"),
    [(DURING_LOADING, ["True", "green"]), (NO_MAIN, ["green", "3", "1.0"])],
    ids=["ahead", "no-main"],
)
def test_a_script_without_a_main_guard(
    script: str, said: list[str], green: Path, colour_models: Path, tmp_path: Path
) -> None:
    """The first of them: the first image is fetched while the model and its runtime are being loaded."""
    (tmp_path / "script.py").write_text(script)
    pair = [colour_models / f"colours_{form}.tflite" for form in ("fp32", "int8")]
    arguments = [green, pair[1]] if script is DURING_LOADING else [green, green.parent, *pair]
    done = subprocess.run(
        [sys.executable, tmp_path / "script.py", *arguments],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (done.stdout.split(), done.stderr) == (said, "")


class TestDevices:
    """What is checked before a device is contacted."""

    def test_take_no_streams(self, green: Path, model: Model) -> None:
        for image in ("-", io.BytesIO(green.read_bytes())):
            with pytest.raises(InputError, match="for this host"):
                list(classify_all([image], model, on="pi@127.0.0.1:9"))

    def test_decode_files_alone(self, green: Path, model: Model) -> None:
        with pytest.raises(InputError, match="only files can be sent"):
            list(classify_all([green.read_bytes()], model, on=["pi@127.0.0.1:9"], send_images=True))

    def test_one_that_is_not_there_is_a_result_with_an_error(self, green: Path, path: Path) -> None:
        (result,) = classify_all(green, path, on="pi@127.0.0.1:9")
        assert (result.file, result.device, result.predictions) == (None, "pi@127.0.0.1:9", ())
        assert result.to_json() == {"device": "pi@127.0.0.1:9", "error": str(result.error)}


def test_the_top_level_has_them() -> None:
    assert {"Classification", "classify", "classify_all"} <= set(edgeq.__all__)
    assert callable(edgeq.classify)  # a module of that name must not take its place
