"""scripts/picture-sheet: pictures with what a model says of them."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "picture-sheet"


def draw(tmp_path: Path, lines: Sequence[Mapping[str, object]], *options: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, SCRIPT, "--out", tmp_path / "sheet.png", *map(str, options)],
        input="".join(json.dumps(line) + "\n" for line in lines),
        capture_output=True,
        text=True,
        check=False,
    )


def test_each_picture_has_a_tile_with_its_bars(tmp_path: Path) -> None:
    lines: list[dict[str, object]] = []
    for number, colour in enumerate(((200, 30, 30), (30, 200, 30), (30, 30, 200))):
        Image.new("RGB", (40, 30), colour).save(tmp_path / f"{number}.png")
        predictions = [{"index": 0, "label": "a long name of a class, too long for a tile", "probability": 0.5}]
        lines.append({"file": str(tmp_path / f"{number}.png"), "predictions": predictions})
    lines.append({"file": "broken.jpg", "error": "cannot be decoded"})
    done = draw(tmp_path, lines, "--columns", 2)
    assert (done.returncode, done.stderr) == (0, "")
    sheet = np.asarray(Image.open(tmp_path / "sheet.png"))
    tile, margin = 180, 12
    height = tile + 20 + margin
    assert sheet.shape == (margin + 2 * (height + margin), margin + 2 * (tile + margin), 3)  # two rows of two
    assert sheet[margin + 90, margin + 90].tolist() == [200, 30, 30]
    assert sheet[margin + 90, margin + tile + margin + 90].tolist() == [30, 200, 30]
    assert sheet[2 * margin + height + 90, margin + 90].tolist() == [30, 30, 200]
    bar = sheet[margin + tile + 3, margin : margin + tile]
    assert (bar == (198, 219, 246)).all(axis=1).sum() == 91  # half of a tile: pixels 0 to 90


def test_nothing_to_draw_is_an_error(tmp_path: Path) -> None:
    done = draw(tmp_path, [])
    assert done.returncode == 1
    assert "no predictions to draw; give the output of `edgeq infer --json`" in done.stderr
    assert not (tmp_path / "sheet.png").exists()
