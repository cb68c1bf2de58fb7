"""``edgeq summary``: what it prints and writes, and what it says when something is wrong."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import Finished

from cli import error_of

Run = Callable[..., Finished]
SMALL = ("summary", "--alpha", 0.35, "--res", 32, "--classes", 10)


class TestBuilt:
    def test_mobilenet_v2_is_the_default(self, edgeq: Run) -> None:
        done = edgeq("summary", env={"COLUMNS": "80"})
        assert (done.code, done.err) == (0, "")
        lines = done.out.splitlines()
        assert lines[0] == "mobilenet_v2_1.0_224, input 224x224x3"
        assert "block_1        1x1, dw 3x3/2, 1x1  56x56x24         5,568     29.2 M" in lines
        assert [line.split() for line in lines if line.startswith(("total", "learned"))] == [
            ["total", "3,538,984", "300.8", "M"],
            ["learned", "3,504,872"],
        ]

    @pytest.mark.accept
    def test_every_option_counts(self, edgeq: Run) -> None:
        options = ("--network", "mobilenet_v3_small", "--alpha", 0.75, "--res", "48x64", "--output-stride", 8)
        done = edgeq("summary", *options, "--head", 16, "--classes", 5, "--json", "-")
        assert (done.code, done.err) == (0, "")
        document = json.loads(done.out)
        assert document["name"] == "mobilenet_v3_small_0.75_48x64_os8_head16"
        assert document["input_shape"] == [64, 48, 3]
        last_map, head = document["blocks"][-2:]
        assert (last_map["name"], last_map["output_shape"]) == ("conv_1", [8, 6, 432])
        assert (head["kind"], head["multiply_adds"]) == ("pool, dense, dense", 432 * 16 + 16 * 5)

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(("options", "side"), [((), 4), (("--output-stride", 32), 1)], ids=["default", "32"])
    def test_small_inputs_keep_a_larger_map(self, options: tuple[object, ...], side: int, edgeq: Run) -> None:
        document = json.loads(edgeq(*SMALL, *options, "--json", "-").out)
        assert {block["name"]: block["output_shape"] for block in document["blocks"]}["Conv_1"] == [side, side, 1280]

    def test_json_beside_the_table(self, tmp_path: Path, edgeq: Run) -> None:
        file = tmp_path / "new" / "summary.json"
        done = edgeq(*SMALL, "--json", file)
        assert (done.code, done.err) == (0, "")
        document = json.loads(file.read_text())
        assert f"{document['parameters']:,}" in done.out
        assert document["multiply_adds"] == sum(block["multiply_adds"] for block in document["blocks"])
        assert document["not_counted"] == []

    def test_fits_the_terminal(self, edgeq: Run) -> None:
        done = edgeq(*SMALL, env={"COLUMNS": "50"})
        assert max(map(len, done.out.splitlines())) <= 50


class TestSource:
    def test_a_keras_model(self, colour_network: Path, edgeq: Run) -> None:
        done = edgeq("summary", colour_network)
        assert (done.code, done.err) == (0, "")
        rows = [line.split() for line in done.out.splitlines()]
        assert rows[0] == ["colours,", "input", "32x32x3"]
        assert [row[1:] for row in rows[3:7]] == [  # after the names, which Keras numbers
            ["dw", "3x3", "32x32x3", "27", "0.0", "M"],
            ["1x1", "32x32x3", "12", "0.0", "M"],
            ["pool", "3", "-", "-"],
            ["dense", "3", "12", "0.0", "M"],
        ]

    def test_a_model_that_leaves_its_size_open(self, tmp_path: Path, edgeq: Run) -> None:
        import keras

        parts = [
            keras.Input((None, None, 3)),
            keras.layers.Conv2D(4, 3, name="only"),
            keras.layers.GlobalMaxPooling2D(),
        ]
        keras.Sequential(parts).save(tmp_path / "open.keras")
        assert "leaves its input size open; give --res" in error_of(edgeq("summary", tmp_path / "open.keras"))
        done = edgeq("summary", tmp_path / "open.keras", "--res", "12x10", "--json", "-")
        document = json.loads(done.out)
        assert (document["name"], document["input_shape"], document["multiply_adds"]) == ("open", [10, 12, 3], 8640)


class TestErrors:
    def test_a_saved_model(self, tmp_path: Path, edgeq: Run) -> None:
        (tmp_path / "saved").mkdir()
        (tmp_path / "saved" / "saved_model.pb").touch()
        assert error_of(edgeq("summary", "saved", cwd=tmp_path)) == (
            "saved: a SavedModel has no layers to list; give the Keras model that it was made from"
        )

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            (("missing.keras",), "missing.keras: no such model"),
            (("model.tflite",), "model.tflite: is a TFLite model already"),
            ((".",), "not a SavedModel"),
            (("m.keras", "--alpha", 1.0, "--network", "mobilenet_v2"), "--alpha, --network: only for networks that"),
            (("--res", 16, "--output-stride", 32), "too small for an output stride of 32"),
            (("--alpha", 0), "width multiplier 0.0: must be positive"),
            (("--classes", 0), "'--classes'"),
            (("--res", "big"), "not a size"),
        ],
        ids=lambda value: " ".join(map(str, value)) if isinstance(value, tuple) else "",
    )
    def test_what_cannot_be(self, arguments: tuple[object, ...], message: str, tmp_path: Path, edgeq: Run) -> None:
        (tmp_path / "model.tflite").touch()
        assert message in error_of(edgeq("summary", *arguments, cwd=tmp_path))

    def test_a_file_that_cannot_be_written(self, tmp_path: Path, edgeq: Run) -> None:
        done = edgeq(*SMALL, "--json", tmp_path)
        assert "cannot write" in error_of(done)
        assert "total" in done.out  # the result is seen all the same
