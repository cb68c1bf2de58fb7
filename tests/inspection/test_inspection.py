"""Looking into a model: against figures that are known from elsewhere."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from edgeq.errors import InputError, ModelError
from edgeq.inspection import check_target, inspect
from edgeq.tflite.graph import read_graph


@pytest.mark.parametrize("name", ["fp32", "int8", "int16x8"])
def test_costs_of_the_colour_network_by_hand(name: str, colour_models: Path) -> None:
    found = inspect(colour_models / f"colours_{name}.tflite")
    # Depthwise 3x3 and pointwise over 32x32x3, each with 3 biases, and a dense layer of 3x3 whose biases are zero.
    assert found.multiply_adds == 32 * 32 * 3 * 9 + 32 * 32 * 3 * 3 + 3 * 3
    assert found.parameters == (27 + 3) + (9 + 3) + 9
    item_bytes = {"fp32": 4 + 4, "int8": 1 + 1, "int16x8": 4 + 2}[name]  # of one step's input and output
    assert found.peak_activation_bytes == 32 * 32 * 3 * item_bytes


def test_published_counts_of_mobilenet_v2(shared: Path) -> None:
    """300 M multiply-adds and 3.5 M parameters: arXiv 1801.04381, table 4 (3.4 M with 1000 classes and no biases)."""
    found = inspect(shared / "models" / "coral" / "tf2_mobilenet_v2_1.0_224_ptq.tflite")
    assert round(found.multiply_adds / 1e6) == 301
    assert found.parameters == 3_489_097
    assert found.full_integer
    assert len(found.labels) == 1001


def test_what_goes_in_and_comes_out(colour_models: Path) -> None:
    found = inspect(colour_models / "colours_int8.tflite")
    (source,), (scores,) = found.inputs, found.outputs
    assert (source.shape, source.dtype) == ((1, 32, 32, 3), "int8")
    assert source.real_range == pytest.approx((-1, 1), abs=0.01)
    assert (scores.shape, scores.dtype, scores.scale, scores.zero_point) == ((1, 3), "int8", (1 / 256,), (-128,))
    assert scores.real_range == (0, 255 / 256)
    assert inspect(colour_models / "colours_fp32.tflite").inputs[0].real_range is None


@pytest.mark.parametrize(
    ("name", "whole"), [("fp32", False), ("int8", True), ("fp16", False), ("dynamic", False), ("int16x8", False)]
)
def test_full_integer(name: str, whole: bool, colour_models: Path) -> None:
    assert inspect(colour_models / f"colours_{name}.tflite").full_integer is whole


def test_operators_are_grouped_and_none_is_lost(mobilenet_models: Path) -> None:
    path = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    found = inspect(path)
    assert sum(group.count for group in found.operators) == len(read_graph(path).operators)
    assert sum(group.multiply_adds for group in found.operators) == found.multiply_adds
    assert found.operators[0].name == "CONV_2D"
    assert {group.types for group in found.operators} == {"int8"}


def test_what_the_file_says_about_itself(colour_models: Path) -> None:
    found = inspect(colour_models / "colours_int8.tflite")
    assert found.labels == ("blue", "green", "red")
    assert found.preprocessing is not None
    assert found.preprocessing["width"] == 32
    assert found.provenance["format"] == "int8"
    assert json.loads(json.dumps(found.to_json()))["size_bytes"] == found.size_bytes


def test_an_open_batch_is_shown(shared: Path) -> None:
    found = inspect(shared / "models" / "mlcommons_tiny" / "vww_96_float.tflite")
    assert found.inputs[0].shape == (-1, 96, 96, 3)
    assert round(found.multiply_adds / 1e6, 1) == 7.5  # MLPerf Tiny, table 1


def test_what_is_no_model(tmp_path: Path) -> None:
    (tmp_path / "a.tflite").write_bytes(b"nothing of the kind")
    with pytest.raises(ModelError, match="not a TFLite model"):
        inspect(tmp_path / "a.tflite")


def test_targets_are_reported_in_the_order_given(colour_models: Path) -> None:
    path, targets = colour_models / "colours_fp32.tflite", ("tflm", "edgetpu")
    found = inspect(path, targets)
    assert found.targets == tuple(check_target(read_graph(path), target) for target in targets)
    assert [bool(report.obstacles) for report in found.targets] == [False, True]
    assert [report["target"] for report in json.loads(json.dumps(found.to_json()))["targets"]] == [*targets]
    with pytest.raises(InputError, match="gpu"):
        inspect(path, ["gpu"])
