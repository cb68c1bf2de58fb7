"""Models as C arrays, compiled by a real compiler."""

from __future__ import annotations

import shutil
import subprocess
import zipfile
from pathlib import Path

import pytest

from edgeq.bundling import write_c_array
from edgeq.runtime import Model
from edgeq.tflite.metadata import Overrides

PROGRAM = """
#include <stdio.h>
#include <stdint.h>
#include "NAME.h"
int main(void) {
  if ((uintptr_t)NAME_data % UPPER_ALIGNMENT != 0 || sizeof(NAME_data) != UPPER_SIZE) return 3;
  fprintf(stderr, "%.9g %d ", UPPER_INPUT_SCALE, UPPER_INPUT_ZERO_POINT);
  fprintf(stderr, "%.9g %d\\n", UPPER_OUTPUT_SCALE, UPPER_OUTPUT_ZERO_POINT);
  for (int i = 0; i < UPPER_CLASSES; ++i) fprintf(stderr, "%s\\n", NAME_labels[i]);
  return fwrite(NAME_data, 1, UPPER_SIZE, stdout) != UPPER_SIZE;
}
"""


@pytest.mark.parametrize("language", ["c", "c++"])
def test_a_compiler_reads_the_same(language: str, colour_models: Path, tmp_path: Path) -> None:
    compiler = shutil.which("cc" if language == "c" else "c++")
    if compiler is None:
        pytest.skip(f"no {language} compiler")
    labels = ("grün", 'say "x"\\n', "why??/")
    model = colour_models / "colours_int8.tflite"
    header, source = write_c_array(model, tmp_path, Overrides(labels=labels))
    name = header.stem
    (tmp_path / "main.c").write_text(PROGRAM.replace("NAME", name).replace("UPPER", name.upper()))
    command = [
        compiler,
        "-x",
        language,
        "-Wall",
        "-Wextra",
        "-Werror",
        tmp_path / "main.c",
        source,
        "-o",
        tmp_path / "a",
    ]
    subprocess.run([str(part) for part in command], check=True)
    done = subprocess.run([tmp_path / "a"], capture_output=True, check=True)
    assert model.read_bytes().startswith(done.stdout)
    with zipfile.ZipFile(model) as archive:  # what follows is edgeq's zip
        assert min(info.header_offset for info in archive.infolist()) == len(done.stdout)
    numbers, *printed = done.stderr.decode().splitlines()
    loaded = Model(model)
    scales = [*loaded.input.quantization.scale, *loaded.output.quantization.scale]
    assert [float(n) for n in numbers.split()[::2]] == pytest.approx(scales, rel=1e-6)
    assert [int(n) for n in numbers.split()[1::2]] == [-1, -128]
    assert tuple(printed) == labels


def test_what_is_left_runs(colour_models: Path, tmp_path: Path) -> None:
    _, source = write_c_array(colour_models / "colours_int8.tflite", tmp_path)
    digits = source.read_text().partition("{")[2].partition("}")[0].replace(",", " ").split()
    (tmp_path / "m.tflite").write_bytes(bytes(int(digit, 16) for digit in digits))
    assert Model(tmp_path / "m.tflite").classes == 3


def test_names_become_identifiers(colour_models: Path, tmp_path: Path) -> None:
    shutil.copyfile(colour_models / "colours_fp32.tflite", tmp_path / "0.35 é.tflite")
    header, source = write_c_array(tmp_path / "0.35 é.tflite", tmp_path / "out")
    assert (header.name, source.name) == ("model_0_35__.h", "model_0_35__.c")
    assert "SCALE" not in header.read_text().split("*/")[1]  # a float model has none
