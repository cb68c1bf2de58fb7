"""Probabilities or logits, by the operator that computes the output; tiny models of each kind are in test_model."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import ModelError
from edgeq.tflite import output_kind
from edgeq.tflite.archive import split
from edgeq.tflite.output_kind import read_output_kind


def test_numbers_are_those_of_the_schema() -> None:
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    numbers = output_kind._PROBABILITIES | output_kind._TRANSPARENT
    assert numbers == {getattr(schema.BuiltinOperator, name): name for name in numbers.values()}


@pytest.mark.parametrize("form", ["fp32", "int8", "fp16", "dynamic", "int16x8"])
def test_of_converted_files(form: str, colour_models: Path) -> None:
    assert read_output_kind(colour_models / f"colours_{form}.tflite") == "probabilities"


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("coral/mobilenet_v2_1.0_224_quant.tflite", "probabilities"),
        ("coral/tf2_mobilenet_v2_1.0_224_ptq.tflite", "probabilities"),  # a QUANTIZE behind the softmax
        ("mlcommons_tiny/vww_96_float.tflite", "probabilities"),
        ("mlcommons_tiny/pretrainedResnet_quant.tflite", "probabilities"),
        ("tflm/person_detect.tflite", "probabilities"),
        ("torchvision/mobilenet_v2_0.35_96_nchw.tflite", "logits"),
        ("torchvision/mobilenet_v2_0.35_96_nhwc.tflite", "logits"),
    ],
)
def test_of_published_files(name: str, kind: str, shared: Path) -> None:
    assert read_output_kind(shared / "models" / name) == kind


def test_damaged_tables_give_an_answer_or_a_model_error(colour_models: Path, tmp_path: Path) -> None:
    """The reader follows offsets out of the file: a wrong one must neither hang nor escape."""
    whole, _ = split((colour_models / "colours_int8.tflite").read_bytes(), "colours")
    path = tmp_path / "damaged.tflite"
    rng = np.random.default_rng(0)
    errors = 0
    for number in range(1000):
        damaged = bytearray(whole[: rng.integers(1, len(whole))] if number % 4 == 0 else whole)
        for position in rng.integers(0, len(damaged), 3):
            damaged[position] = rng.integers(256)
        path.write_bytes(damaged)
        try:
            assert read_output_kind(path) in ("probabilities", "logits")
        except ModelError:
            errors += 1
    assert 0 < errors < 1000
