"""What edgeq costs on the board: against the simplest script that does the same."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import ROOT, colour_picture

BARE = "import numpy, PIL.Image, tflite_runtime.interpreter"
OURS = f"import edgeq.cli, edgeq.cli.infer, edgeq.runtime.model, edgeq.classification; {BARE}"
PEAK = """
import sys, runpy
sys.argv = sys.argv[1:]
try:
    runpy.run_path(sys.argv[0], run_name="__main__") if sys.argv[0].endswith(".py") else runpy.run_module("edgeq")
finally:
    peak = next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))
    print(peak.split()[1], file=sys.stderr)
"""


def start(pi: Path, code: str, *arguments: object) -> str:
    """Run code on the Pi: what it wrote to standard error."""
    command = [str(pi / "bin" / "python3"), "-c", code, *map(str, arguments)]
    done = subprocess.run(
        command, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stderr


def test_what_is_imported_beyond_the_runtime_is_small(pi: Path) -> None:
    """Counted, not timed: click, the standard library, `numpy.typing` and a few dozen modules of edgeq."""
    listed = "import sys; {}; print(*(n for n, m in sys.modules.items() if m), file=sys.stderr)"
    bare, ours = (set(start(pi, listed.format(code)).split()) for code in (BARE, OURS))
    added = {name for name in ours - bare if name.split(".")[0] not in sys.stdlib_module_names}
    assert {name.split(".")[0] for name in added} == {"edgeq", "click", "numpy"}
    print(f"{len(added)} modules imported beyond the {len(bare)} of a script")
    assert len(added) < 70


@pytest.mark.accept
def test_peak_memory_is_at_most_a_fifth_above_a_scripts(pi: Path, mobilenet_models: Path, tmp_path: Path) -> None:
    source = (ROOT / "scripts" / "baselines" / "infer.py").read_text()
    baseline, labels = tmp_path / "infer.py", tmp_path / "labels.txt"
    baseline.write_text(source.replace("ai_edge_litert", "tflite_runtime"))
    labels.write_text("".join(f"{i}\n" for i in range(10)))
    model = mobilenet_models / "mobilenet_v2_0.35_96_int8.tflite"
    photo = tmp_path / "photo.jpg"
    colour_picture("red", 1, 500).save(photo)
    script = int(start(pi, PEAK, baseline, model, labels, photo).split()[-1])
    ours = int(start(pi, PEAK, "edgeq", "infer", photo, "--model", model).split()[-1])
    print(f"peak memory {ours / 1e3:.1f} MB, of the script {script / 1e3:.1f} MB")
    assert ours / script <= 1.2
