"""What the GitHub action runs: on a good pair, on a drifted one, and on none."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import ROOT, Finished

from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import read_metadata
from edgeq.tflite.metadata_writer import repack


@pytest.fixture
def drifted(colour_models: Path, tmp_path: Path) -> Path:
    """The colour network's INT8 file with red and blue swapped."""
    path = colour_models / "colours_int8.tflite"
    metadata = read_metadata(path)
    assert metadata.preprocessing is not None
    swapped = replace(metadata, preprocessing=replace(metadata.preprocessing, channels="BGR"))
    (tmp_path / "drifted.tflite").write_bytes(repack(read_graph(path).content, swapped))
    return tmp_path / "drifted.tflite"


def gate(folder: Path, **variables: object) -> tuple[Finished, str]:
    """Run it with these variables: what it returned, and the job's summary."""
    summary = folder / "summary.md"
    summary.write_text("Earlier steps.\n")
    program = folder / "bin" / "edgeq"
    program.parent.mkdir(exist_ok=True)
    program.write_text(f'#!/bin/sh\nexec {sys.executable} -m edgeq "$@"\n')
    program.chmod(0o755)
    environment = {
        **os.environ,
        "PYTHONPATH": str(ROOT),
        "PATH": f"{program.parent}:{os.environ['PATH']}",
        "GITHUB_STEP_SUMMARY": str(summary),
        **{name: str(value) for name, value in variables.items()},
    }
    command = [str(ROOT / "scripts" / "drift-gate")]
    done = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    return Finished(done.returncode, done.stdout, done.stderr), summary.read_text()


def test_a_good_pair(colour_models: Path, photos: Path, tmp_path: Path) -> None:
    done, summary = gate(
        tmp_path,
        REFERENCE=colour_models / "colours_fp32.tflite",
        CANDIDATE=colour_models / "colours_int8.tflite",
        DATA=photos,
        MIN_AGREEMENT=0.95,
        MAX_DROP=0.01,
    )
    assert (done.code, done.err) == (0, "")
    assert summary.startswith("Earlier steps.\n## Quantization drift: within limits\n")
    assert "| top-1 agreement | 100.0 % |" in summary


def test_a_drifted_pair(colour_models: Path, drifted: Path, photos: Path, tmp_path: Path) -> None:
    done, summary = gate(
        tmp_path,
        REFERENCE=colour_models / "colours_fp32.tflite",
        CANDIDATE=drifted,
        DATA=photos,
        MIN_AGREEMENT=0.95,
    )
    assert done.code == 1
    assert "less than 0.95" in done.err
    assert "## Quantization drift: limits missed" in summary
    assert "**Missed:** Agreement is" in summary
    assert (
        "<details><summary>24 images with a different top-1 class, the 20 with the largest margins</summary>" in summary
    )


def test_a_missing_file(colour_models: Path, photos: Path, tmp_path: Path) -> None:
    done, summary = gate(
        tmp_path, REFERENCE=colour_models / "colours_fp32.tflite", CANDIDATE="none.tflite", DATA=photos
    )
    assert (done.code, summary) == (2, "Earlier steps.\n")
    assert "none.tflite" in done.err


def test_a_missing_variable(tmp_path: Path) -> None:
    done, _ = gate(tmp_path, REFERENCE="a.tflite", CANDIDATE="b.tflite")
    assert done.code == 2
    assert "DATA" in done.err
