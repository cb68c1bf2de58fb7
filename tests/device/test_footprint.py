"""What edgeq costs on the board: against the simplest script that does the same."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

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


def test_importing_takes_less_than_twice_the_time_of_what_it_needs(pi: Path) -> None:
    """Of the processor, which other work on the machine does not add to."""
    timed = "import sys, time; {}; print(time.process_time(), file=sys.stderr)"
    start(pi, OURS)  # compiles
    # In turns, and the best of each: what else runs makes caches cold, and the emulator's own threads wait.
    turns = [[float(start(pi, timed.format(code))) for code in ("pass", BARE, OURS)] for _ in range(5)]
    nothing, bare, ours = (min(times) for times in zip(*turns, strict=True))
    ratio = (ours - nothing) / (bare - nothing)
    print(f"imports take {ratio:.2f} times as long")
    assert ratio < 2


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
