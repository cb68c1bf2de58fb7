"""`edgeq.refine`: from two files to a third, whatever the images come from."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import IntegerPair

from edgeq.calibration import choose_images, shipped_images
from edgeq.errors import InputError
from edgeq.preprocessing import Preprocessing
from edgeq.refinement import refine, refine_model
from edgeq.runtime import Model
from edgeq.tflite.metadata import read_metadata

pytest.importorskip("tensorflow")


def test_the_result_is_what_the_file_says(blocks: IntegerPair, tmp_path: Path) -> None:
    before = blocks.int8.read_bytes()
    result = refine(str(blocks.fp32), blocks.int8, tmp_path / "new" / "better.tflite", count=20)
    assert blocks.int8.read_bytes() == before
    assert result.path == tmp_path / "new" / "better.tflite"
    assert read_metadata(result.path).provenance["refinement"] == result.refinement.to_json()
    assert (result.refinement.images, result.refinement.checked_on) == (16, 4)
    assert len(result.calibration.files) == 20
    assert result.notes == ()
    assert json.loads(json.dumps(result.to_json())) == {"path": str(result.path), **result.refinement.to_json()}
    assert Model(result.path).labels == tuple("abcdef")


def test_its_numbers_are_those_of_the_models_refined_in_memory(blocks: IntegerPair, tmp_path: Path) -> None:
    """Here the set has all the images that the pair was calibrated on."""
    chosen = choose_images(shipped_images(), Preprocessing(32, 32, crop=1.0), count=40)
    result = refine(blocks.fp32, blocks.int8, tmp_path / "a.tflite", calibration=chosen)
    _, expected = refine_model(Model(blocks.fp32), Model(blocks.int8), chosen.pixels)
    assert result.refinement == expected
    assert result.calibration is chosen
    listed = refine(blocks.fp32, blocks.int8, tmp_path / "b.tflite", calibration=chosen.files, count=10, bias_only=True)
    assert listed.refinement.methods == ("bias",)
    assert set(listed.calibration.files) <= set(chosen.files)


def test_a_model_that_borrows_its_normalization_is_noted(shared: Path, tmp_path: Path) -> None:
    """MLPerf Tiny's float file does not tell its normalization; the integer file's input does."""
    models = shared / "models" / "mlcommons_tiny"
    pair = models / "vww_96_float.tflite", models / "vww_96_int8.tflite"
    result = refine(*pair, tmp_path / "vww.tflite", count=10, bias_only=True)
    assert [note.partition(" of ")[0] for note in result.notes] == ["took the normalization"]


def test_nothing_is_written_for_images_that_do_not_fit(blocks: IntegerPair, tmp_path: Path) -> None:
    grey = choose_images(shipped_images(), Preprocessing(32, 32, channels="L", crop=1.0), count=10)
    for calibration, message in (
        (grey, "the calibration set has images of shape"),
        (replace(grey, pixels=()), "the calibration set has images of shape"),
        (["none.jpg"], "none.jpg: no such image"),
        (tmp_path / "none", "none: no such folder"),
    ):
        with pytest.raises(InputError, match=message):
            refine(blocks.fp32, blocks.int8, tmp_path / "out.tflite", calibration=calibration)
    assert list(tmp_path.iterdir()) == []
