"""``edgeq infer``: what it prints, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import COLOURS, ROOT, Finished, colour_picture

from cli import error_of
from edgeq.classification import top_predictions
from edgeq.runtime import Model

Run = Callable[..., Finished]


@pytest.fixture(scope="module")
def model(colour_models: Path) -> Path:
    return colour_models / "colours_int8.tflite"


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """a_blue.png, b_green.jpg, sub/c_red.jpg; and b_bad.jpg, cut off."""
    folder = tmp_path_factory.mktemp("pictures")
    (folder / "sub").mkdir()
    for number, (name, path) in enumerate(zip(COLOURS, ("a_blue.png", "b_green.jpg", "sub/c_red.jpg"), strict=True)):
        colour_picture(name, seed=900 + number).save(folder / path)
    return folder


@pytest.fixture(scope="module")
def bad(tmp_path_factory: pytest.TempPathFactory, pictures: Path) -> Path:
    """A photo of which the second half is missing."""
    path = tmp_path_factory.mktemp("bad") / "bad.jpg"
    content = (pictures / "b_green.jpg").read_bytes()
    path.write_bytes(content[: len(content) // 2])
    return path


def expected(model: Path, image: Path, top: int = 5) -> list[dict[str, Any]]:
    """What the library says of an image, as the command has it in its JSON."""
    loaded = Model(model)
    return [vars(p) for p in top_predictions(loaded.classify(image), loaded.labels, top)]


class TestText:
    def test_one_photo(self, model: Path, pictures: Path, edgeq: Run) -> None:
        done = edgeq("infer", "a_blue.png", "--model", model, cwd=pictures)
        assert (done.code, done.err) == (0, "")
        name, *lines = done.out.splitlines()
        assert name == "a_blue.png"
        found = [(line[10:], line[:8].strip()) for line in lines]
        assert found == [(p["label"], f"{p['probability']:.1%}") for p in expected(model, pictures / "a_blue.png")]
        assert found[0][0] == "blue"

    @pytest.mark.parametrize(("top", "lines"), [(1, 1), (2, 2), (3, 3), (99, 3)])
    def test_top(self, top: int, lines: int, model: Path, pictures: Path, edgeq: Run) -> None:
        done = edgeq("infer", pictures / "a_blue.png", "-m", model, "--top", top)
        assert len(done.out.splitlines()) == 1 + lines

    def test_time(self, model: Path, pictures: Path, edgeq: Run) -> None:
        done = edgeq("infer", pictures / "a_blue.png", "--model", model, "--time")
        last = done.out.splitlines()[-1].strip()
        steps = [part.rsplit(maxsplit=2) for part in last.split(", ")]
        assert [step for step, _, _ in steps] == ["decode", "preprocess", "invoke"]
        assert all(unit == "ms" and 0 <= float(ms) < 10_000 for _, ms, unit in steps)

    def test_a_file_without_labels_gives_numbers(self, mobilenet_models: Path, pictures: Path, edgeq: Run) -> None:
        path = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
        done = edgeq("infer", pictures / "a_blue.png", "--model", path, "--top", 1)
        assert done.out.splitlines()[1][10:] in map(str, range(10))

    def test_labels_can_be_given(self, model: Path, pictures: Path, tmp_path: Path, edgeq: Run) -> None:
        (tmp_path / "german.txt").write_text("blau\ngrün\nrot\n", encoding="utf-8")
        done = edgeq(
            "infer", pictures / "b_green.jpg", "--model", model, "--top", 1, "--labels", tmp_path / "german.txt"
        )
        assert done.out.splitlines()[1][10:] == "grün"


class TestImages:
    def test_are_files_folders_and_patterns_in_order(self, model: Path, pictures: Path, edgeq: Run) -> None:
        arguments = ["sub/c_red.jpg", ".", "*.jpg"]
        done = edgeq("infer", *arguments, "--model", model, "--top", 1, "--json", cwd=pictures)
        assert (done.code, done.err) == (0, "")
        found = [json.loads(line) for line in done.out.splitlines()]
        assert [(line["file"], line["predictions"][0]["label"]) for line in found] == [
            ("sub/c_red.jpg", "red"),
            ("a_blue.png", "blue"),
            ("b_green.jpg", "green"),
            ("sub/c_red.jpg", "red"),
            ("b_green.jpg", "green"),
        ]

    def test_a_pattern_that_goes_deep(self, model: Path, pictures: Path, edgeq: Run) -> None:
        done = edgeq("infer", "**/*.jpg", "--model", model, "--json", cwd=pictures)
        assert [json.loads(line)["file"] for line in done.out.splitlines()] == ["b_green.jpg", "sub/c_red.jpg"]

    def test_a_name_that_looks_like_a_pattern(self, model: Path, pictures: Path, tmp_path: Path, edgeq: Run) -> None:
        shutil.copy(pictures / "a_blue.png", tmp_path / "photo[1].png")
        done = edgeq("infer", "photo[1].png", "--model", model, "--top", 1, cwd=tmp_path)
        assert (done.code, done.out.split()[0]) == (0, "photo[1].png")

    def test_standard_input(self, model: Path, pictures: Path, edgeq: Run) -> None:
        content = (pictures / "sub" / "c_red.jpg").read_bytes()
        done = edgeq("infer", "-", "--model", model, "--json", stdin=content)
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out) == {"file": "-", "predictions": expected(model, pictures / "sub" / "c_red.jpg")}

    @pytest.mark.skipif(sys.platform == "win32", reason="file names are bytes on Unix only")
    @pytest.mark.parametrize("encoding", ["utf-8:strict", "latin-1:strict", "ascii:strict"])
    def test_a_name_that_the_terminal_cannot_show(
        self, encoding: str, model: Path, pictures: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        """Old archives hold names in Latin-1; most terminals are UTF-8, and strict."""
        shutil.copy(os.fsencode(pictures / "a_blue.png"), os.fsencode(tmp_path) + b"/caf\xe9.png")
        done = edgeq("infer", tmp_path, "--model", model, "--top", 1, env={"PYTHONIOENCODING": encoding})
        assert (done.code, done.err) == (0, "")
        assert "caf" in done.out
        assert "blue" in done.out


class TestJson:
    def test_its_exact_shape(self, model: Path, pictures: Path, edgeq: Run) -> None:
        path = pictures / "b_green.jpg"
        done = edgeq("infer", path, "--model", model, "--json", "--top", 2)
        assert (done.code, done.err) == (0, "")
        assert json.loads(done.out) == {"file": str(path), "predictions": expected(model, path, top=2)}
        best = json.loads(done.out)["predictions"][0]
        assert set(best) == {"index", "label", "probability"}
        assert (best["index"], best["label"]) == (1, "green")
        assert best["probability"] * 256 == pytest.approx(round(best["probability"] * 256), abs=1e-3)  # INT8 softmax

    def test_with_times(self, model: Path, pictures: Path, edgeq: Run) -> None:
        line = json.loads(edgeq("infer", pictures / "b_green.jpg", "--model", model, "--json", "--time").out)
        assert set(line) == {"file", "predictions", "times_ms"}
        assert set(line["times_ms"]) == {"decode", "preprocess", "invoke"}
        assert all(ms >= 0 for ms in line["times_ms"].values())

    @pytest.mark.accept
    def test_the_reference_kernels_and_the_runtimes_agree(self, model: Path, pictures: Path, edgeq: Run) -> None:
        outs = {
            (runtime, kernels): edgeq(
                *("infer", pictures, "--model", model, "--json"), *("--runtime", runtime, "--kernels", kernels)
            )
            for runtime, kernels in [("auto", "default"), ("ai-edge-litert", "reference"), ("tensorflow", "reference")]
        }
        assert {done.code for done in outs.values()} == {0}
        assert outs["ai-edge-litert", "reference"].out == outs["tensorflow", "reference"].out
        labels = [json.loads(line)["predictions"][0]["label"] for line in outs["auto", "default"].out.splitlines()]
        assert labels == list(COLOURS)


class TestFolders:
    @pytest.mark.parametrize("options", [(), ("--json",)], ids=["text", "json"])
    def test_files_that_are_no_images_are_skipped_and_counted(
        self, options: tuple[str, ...], model: Path, pictures: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        shutil.copytree(pictures, tmp_path / "photos")
        before = edgeq("infer", "photos", "--model", model, *options, cwd=tmp_path)
        for name in ("labels.csv", "notes.txt", "sub/README"):
            (tmp_path / "photos" / name).write_text("of no interest")
        done = edgeq("infer", "photos", "--model", model, *options, cwd=tmp_path)
        assert (done.code, done.out) == (0, before.out)
        assert done.err == "Skipped 3 files that are not images.\n"

    def test_an_image_that_cannot_be_decoded_stays_an_error(self, model: Path, pictures: Path, edgeq: Run) -> None:
        bad = pictures / "sub" / "bad.jpg"
        bad.write_text("no image")
        try:
            done = edgeq("infer", pictures, "--model", model)
        finally:
            bad.unlink()
        assert done.code == 2
        assert error_of(done) == f"{bad}: not an image that Pillow can read"


class TestBadImages:
    def test_are_reported_and_the_rest_go_on(self, model: Path, pictures: Path, bad: Path, edgeq: Run) -> None:
        done = edgeq("infer", pictures / "a_blue.png", bad, pictures / "b_green.jpg", "--model", model, "--top", 1)
        assert done.code == 2
        assert error_of(done).startswith(f"{bad}: damaged or unreadable image")
        assert [line[10:] for line in done.out.splitlines()[1::2]] == ["blue", "green"]

    def test_in_json_too(self, model: Path, pictures: Path, bad: Path, edgeq: Run) -> None:
        done = edgeq("infer", bad, pictures / "a_blue.png", "--model", model, "--json")
        message = error_of(done)
        lines = [json.loads(line) for line in done.out.splitlines()]
        assert lines[0] == {"file": str(bad), "error": message.removeprefix(f"{bad}: ")}
        assert lines[1]["predictions"][0]["label"] == "blue"

    def test_each_is_reported(self, model: Path, bad: Path, tmp_path: Path, edgeq: Run) -> None:
        done = edgeq("infer", bad, tmp_path / "missing.jpg", bad, "--model", model)
        assert (done.code, done.out) == (2, "")
        lines = done.err.splitlines()
        assert [line.split(": ")[1] for line in lines] == [str(bad), str(tmp_path / "missing.jpg"), str(bad)]
        assert all(line.startswith("Error: ") for line in lines)

    @pytest.mark.parametrize(
        ("argument", "message"),
        [
            pytest.param("missing.jpg", "missing.jpg: no such file", id="missing"),
            pytest.param("missing/*.jpg", "missing/*.jpg: no such file", id="pattern-without-a-match"),
            pytest.param("text.txt", "text.txt: not an image that Pillow can read", id="text"),
            pytest.param("empty.jpg", "empty.jpg: not an image that Pillow can read", id="empty-file"),
            pytest.param("empty", "empty", id="empty-folder"),
            pytest.param("", "", id="empty-argument"),
        ],
    )
    def test_messages(self, argument: str, message: str, model: Path, tmp_path: Path, edgeq: Run) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "empty.jpg").touch()
        (tmp_path / "text.txt").write_text("hello")
        done = edgeq("infer", argument, "--model", model, cwd=tmp_path)
        assert error_of(done).startswith(message)
        assert done.out == ""

    @pytest.mark.parametrize("content", [b"", b"no image"], ids=["nothing", "text"])
    def test_on_standard_input(self, content: bytes, model: Path, edgeq: Run) -> None:
        done = edgeq("infer", "-", "--model", model, stdin=content)
        assert "not an image that Pillow can read" in error_of(done)


class TestBadModels:
    @pytest.mark.parametrize(
        ("name", "content", "message"),
        [
            pytest.param("missing.tflite", None, "no such model file", id="missing"),
            pytest.param("empty.tflite", b"", "not a TFLite model", id="empty"),
            pytest.param("photo.jpg", b"\xff\xd8\xff\xe0" + bytes(100), "not a TFLite model", id="photo"),
            pytest.param("cut.tflite", 600, "", id="cut-off"),
            pytest.param("head.tflite", 8, "", id="only-its-first-bytes"),
            pytest.param("folder", "folder", "cannot read the model (Is a directory)", id="folder"),
        ],
    )
    def test_files(
        self, name: str, content: Any, message: str, model: Path, pictures: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        path = tmp_path / name
        if content == "folder":
            path.mkdir()
        elif content is not None:
            path.write_bytes(model.read_bytes()[:content] if isinstance(content, int) else content)
        done = edgeq("infer", pictures / "a_blue.png", "--model", path)
        error = error_of(done)
        assert error.startswith(str(path))
        assert message in error

    def test_that_do_not_say_how_their_input_is_normalized(
        self, model: Path, colour_models: Path, pictures: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        content = (colour_models / "colours_fp32.tflite").read_bytes()
        nameless = content.replace(b"TFLITE_METADATA", b"SOMETHING_ELSE_").partition(b"PK\x03\x04")[0]
        (tmp_path / "bare.tflite").write_bytes(nameless)
        arguments = ("infer", pictures / "a_blue.png", "--model", tmp_path / "bare.tflite")
        assert "give --normalize -1..1, 0..1, 0..255, imagenet or MEAN/STD" in error_of(edgeq(*arguments))
        given = edgeq(*arguments, "--normalize", "127.5/127.5", "--json")
        assert (given.code, given.err) == (0, "")
        probabilities = [p["probability"] for p in json.loads(given.out)["predictions"]]
        ours = expected(colour_models / "colours_fp32.tflite", pictures / "a_blue.png")
        assert probabilities == pytest.approx([p["probability"] for p in ours], abs=1e-5)

    def test_that_fail_when_they_run(self, shared: Path, edgeq: Run) -> None:
        path = shared / "models" / "coral" / "model_invoking_error.tflite"
        image = shared / "models" / "coral" / "parrot.jpg"
        assert str(path) in error_of(edgeq("infer", image, "--model", path, "--normalize", "-1..1"))


class TestBadOptions:
    @pytest.mark.parametrize(
        ("options", "message"),
        [
            pytest.param(["--top", "0"], "0 is not in the range", id="top-0"),
            pytest.param(["--top", "many"], "'many' is not a valid integer", id="top-word"),
            pytest.param(["--threads", "0"], "0 is not in the range", id="threads-0"),
            pytest.param(["--kernels", "fast"], "'fast' is not one of", id="kernels"),
            pytest.param(["--runtime", "onnx"], "'onnx' is not one of", id="runtime"),
            pytest.param(["--crop", "0"], "0", id="crop-0"),
            pytest.param(["--crop", "1.5"], "1.5 is not in the range", id="crop-above-1"),
            pytest.param(["--channels", "RGBA"], "'RGBA' is not one of", id="channels"),
            pytest.param(["--normalize", "-2..2"], "normalization '-2..2': must be one of", id="normalization"),
            pytest.param(["--normalize", "1,2/3"], "mean (1.0, 2.0) and std (3.0,)", id="two-means"),
            pytest.param(["--normalize", "0/0"], "std positive", id="std-0"),
            pytest.param(["--normalize", "nan/1"], "must be finite", id="mean-nan"),
            pytest.param(["--labels", "missing.txt"], "missing.txt: cannot read labels", id="labels-missing"),
            pytest.param(["--labels", "two.txt"], "has 3 classes, but 2 labels were given", id="labels-too-few"),
            pytest.param(["--labels", "none.txt"], "none.txt: holds no labels", id="labels-none"),
            pytest.param(["--labels", "latin.txt"], "latin.txt: labels must be UTF-8 text", id="labels-latin-1"),
            pytest.param(["--labels", "."], "has no sub-folders to take labels from", id="labels-folder"),
        ],
    )
    def test_are_refused(
        self, options: list[str], message: str, model: Path, pictures: Path, tmp_path: Path, edgeq: Run
    ) -> None:
        (tmp_path / "two.txt").write_text("a\nb\n")
        (tmp_path / "none.txt").write_text("\n")
        (tmp_path / "latin.txt").write_bytes(b"gr\xfcn\n")
        done = edgeq("infer", pictures / "a_blue.png", "--model", model, *options, cwd=tmp_path)
        assert message in error_of(done)
        assert done.out == ""

    def test_a_runtime_of_the_environment_that_does_not_exist(self, model: Path, pictures: Path, edgeq: Run) -> None:
        done = edgeq("infer", pictures / "a_blue.png", "--model", model, env={"EDGEQ_RUNTIME": "onnx"})
        assert error_of(done).startswith("runtime 'onnx': must be one of auto, ")

    def test_bgr_for_a_grey_model(self, shared: Path, edgeq: Run) -> None:
        path = shared / "models" / "tflm" / "person_detect.tflite"
        image = shared / "models" / "tflm" / "person.bmp"
        error = error_of(edgeq("infer", image, "--model", path, "--channels", "BGR"))
        assert "takes 1 channel(s), not BGR" in error

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["photo.jpg"], "Missing option '--model'", id="no-model"),
            pytest.param(["--model", "m.tflite"], "Missing argument 'IMAGE...'", id="no-image"),
        ],
    )
    def test_what_has_to_be_given(self, arguments: list[str], message: str, edgeq: Run) -> None:
        assert message in error_of(edgeq("infer", *arguments))


class TestPipes:
    def start(self, *arguments: object, **options: Any) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "edgeq", "infer", *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            **options,
        )

    def test_a_reader_that_has_seen_enough(self, model: Path, photos: Path) -> None:
        """As in ``edgeq infer photos/ | head -1``; more is printed than a pipe holds."""
        process = self.start(*[photos] * 60, "--model", model)
        assert process.stdout is not None
        assert process.stdout.readline().strip() == str(photos / "blue" / "00.jpg").encode()
        process.stdout.close()
        assert process.stderr is not None
        assert process.stderr.read() == b""
        assert process.wait(60) == 141

    def test_an_error_while_standard_input_is_still_open(self, model: Path, tmp_path: Path) -> None:
        """As at a terminal, or behind a camera that has not sent its picture yet."""
        (tmp_path / "two.txt").write_text("a\nb\n")
        process = self.start("-", "--model", model, "--labels", tmp_path / "two.txt", stdin=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stderr is not None
        assert process.wait(60) == 2
        lines = process.stderr.read().decode().splitlines()
        assert len(lines) == 1
        assert lines[0].startswith("Error: ")
        process.stdin.close()
