"""``edgeq refine``: the file it writes, what it prints, and what it says when something is wrong."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, Finished, IntegerPair

from cli import error_of
from edgeq.files import sha256_of_file
from edgeq.runtime import Model
from edgeq.tflite.archive import split
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, read_metadata

Run = Callable[..., Finished]


@pytest.fixture
def here(blocks: IntegerPair, tmp_path: Path) -> Path:
    """A folder with the two files and nothing else."""
    shutil.copy(blocks.fp32, tmp_path)
    shutil.copy(blocks.int8, tmp_path)
    return tmp_path


FILES = ("blocks_fp32.tflite", "blocks_int8.tflite")


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_writes_a_better_file_beside_the_integer_one(here: Path, edgeq_here: Run) -> None:
    before = (here / FILES[1]).read_bytes()
    done = edgeq_here("refine", *FILES, cwd=here)
    assert (done.code, done.err) == (0, "")
    path, sentence = done.out.splitlines()
    assert path == "blocks_int8_refined.tflite"
    assert names(here) == sorted([*FILES, path])
    assert (here / FILES[1]).read_bytes() == before
    record = read_metadata(here / path).provenance["refinement"]
    assert record["kept"]
    assert record["l1_after"] < 0.65 * record["l1_before"]
    assert sentence == (
        f"Refined on {record['images']} images. Mean L1 of the probabilities on {record['checked_on']} held-out "
        f"images: {record['l1_before']:.4f} before, {record['l1_after']:.4f} after; on the others: "
        f"{record['fitted_l1_before']:.4f} before, {record['fitted_l1_after']:.4f} after."
    )
    assert record["images"] + record["checked_on"] == 100


def test_metadata_and_the_model_s_size_stay(here: Path, edgeq_here: Run) -> None:
    assert edgeq_here("refine", *FILES, "--calib-count", 20, cwd=here).code == 0
    old, new = (here / FILES[1]), here / "blocks_int8_refined.tflite"
    models = [split(path.read_bytes(), path)[0] for path in (old, new)]
    assert len(models[0]) == len(models[1])
    before, after = read_metadata(old), read_metadata(new)
    assert after.labels == before.labels == tuple("abcdef")
    assert (after.preprocessing, after.output) == (before.preprocessing, before.output)
    assert before.provenance["refinement"] is None
    assert after.provenance == before.provenance | {"refinement": after.provenance["refinement"]}
    assert Model(new).labels == before.labels
    kinds = [[(o.name, o.version) for o in read_graph(path).operators] for path in (old, new)]
    assert kinds[0] == kinds[1]


def test_out_and_json(here: Path, edgeq_here: Run) -> None:
    options = ("--calib-count", 15, "--out", "new/better.tflite", "--json")
    done = edgeq_here("refine", *FILES, *options, cwd=here)
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    record = read_metadata(here / "new" / "better.tflite").provenance["refinement"]
    assert document == {"path": "new/better.tflite", **record}
    assert (document["images"], document["checked_on"], document["layers"]) == (12, 3, 10)
    assert names(here) == sorted([*FILES, "new"])


def test_bias_only_leaves_weights_and_ranges(here: Path, edgeq_here: Run) -> None:
    assert edgeq_here("refine", *FILES, "--bias-only", "--calib-count", 20, "--out", "b.tflite", cwd=here).code == 0
    before, after = (read_graph(here / name) for name in (FILES[1], "b.tflite"))
    changed = []
    for old, new in zip(before.tensors, after.tensors, strict=True):
        assert old.quantization.scale == pytest.approx(new.quantization.scale, rel=1e-6)
        assert (old.data is None) == (new.data is None)
        if old.data is not None and new.data is not None and not np.array_equal(old.data, new.data):
            changed.append(old.quantization.dtype)
    assert changed == ["int32"] * 10


def test_the_same_arguments_give_the_same_bytes_and_another_seed_others(here: Path, edgeq_here: Run) -> None:
    for number, seed in enumerate((0, 0, 1)):
        options = ("--calib-count", 12, "--seed", seed, "--out", f"{number}.tflite")
        assert edgeq_here("refine", *FILES, *options, cwd=here).code == 0
    first, second, other = ((here / f"{number}.tflite").read_bytes() for number in range(3))
    assert first == second
    assert first != other


def test_photos_of_one_s_own_and_files_that_are_none(
    here: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory, edgeq_here: Run
) -> None:
    folder = tmp_path_factory.mktemp("mine") / "photos"
    shutil.copytree(photos, folder)
    (folder / "note.txt").write_text("no picture")
    done = edgeq_here("refine", *FILES, "--calib", folder, cwd=here)
    assert (done.code, done.err) == (0, "")
    record = read_metadata(here / "blocks_int8_refined.tflite").provenance["refinement"]
    assert (record["images"], record["checked_on"]) == (29, 7)  # of 36
    digests = {sha256_of_file(path)[:FINGERPRINT_LENGTH] for path in folder.rglob("*.jpg")}
    known = [read_metadata(here / name).calibrated_on for name in (FILES[1], "blocks_int8_refined.tflite")]
    assert known[1] == known[0] | digests, "a comparison on these photos has to be distinguishable from one on others"
    assert done.out.splitlines()[-1] == "Skipped 1 file that is not an image."


def test_files_of_other_tools_change_in_their_numbers_alone(shared: Path, tmp_path: Path, edgeq_here: Run) -> None:
    """MLPerf Tiny's visual wake words, both files by another converter; nothing is added to them."""
    models = shared / "models" / "mlcommons_tiny"
    pair = (models / "vww_96_float.tflite", models / "vww_96_int8.tflite")
    out = tmp_path / "vww.tflite"
    done = edgeq_here("refine", *pair, "--bias-only", "--calib-count", 20, "--json", "--out", out)
    assert (done.code, done.err) == (0, "")
    result: dict[str, Any] = json.loads(done.out)
    assert result["layers"] == 28
    assert out.stat().st_size == pair[1].stat().st_size
    assert result["kept"] == (out.read_bytes() != pair[1].read_bytes())


class TestErrors:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            pytest.param(["none.tflite", FILES[1]], "none.tflite: no such model file", id="fp32-missing"),
            pytest.param([FILES[0], "none.tflite"], "none.tflite: no such model file", id="int8-missing"),
            pytest.param([FILES[0]], "Missing argument 'INT8'", id="one-file"),
            pytest.param([*FILES, "--calib", "none"], "none: no such folder", id="photos-missing"),
            pytest.param([*FILES, "--calib", "empty"], "empty: 0 usable images", id="photos-none"),
            pytest.param([*FILES, "--calib-count", 4], "4 is not in the range x>=10", id="too-few"),
            pytest.param([FILES[0], "text.tflite"], "text.tflite: not a TFLite model", id="no-model"),
            pytest.param([FILES[0], FILES[0]], "is not INT8: its operator 0", id="both-float"),
            pytest.param(FILES[::-1], "is not INT8: its operator 0", id="the-wrong-way-round"),
            pytest.param([FILES[0], "COLOURS"], "operator 0 (CONV_2D to 16x16x8)", id="mismatch"),
            pytest.param([*FILES, "--out", "empty"], "empty: cannot write", id="out-a-folder"),
            pytest.param([*FILES, "--out", "text.tflite/x.tflite"], "cannot write", id="out-below-a-file"),
        ],
    )
    def test_say_in_one_line_what_is_wrong_and_write_nothing(
        self, arguments: list[Any], message: str, here: Path, colour_models: Path, edgeq_here: Run
    ) -> None:
        (here / "empty").mkdir()
        (here / "text.tflite").write_text("no model at all")
        before = names(here)
        given = [colour_models / "colours_int8.tflite" if a == "COLOURS" else a for a in arguments]
        done = edgeq_here("refine", *given, cwd=here)
        assert message in error_of(done)
        assert done.out == ""
        assert names(here) == before
        assert (here / "text.tflite").read_text() == "no model at all"
        assert names(here / "empty") == []


def test_needs_no_tensorflow(here: Path) -> None:
    code = (
        "import sys\n"
        "import edgeq.refinement\n"
        "from edgeq.cli import main\n"
        "try:\n    main(sys.argv[1:])\nexcept SystemExit as end:\n    assert end.code == 0\n"
        "print(sorted({'tensorflow', 'keras'} & set(sys.modules)))\n"
    )
    command = [sys.executable, "-c", code, "refine", *FILES, "--calib-count", "10"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "EDGEQ_RUNTIME": "ai-edge-litert"}
    done = subprocess.run(command, cwd=here, env=environment, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[-1] == "[]"
