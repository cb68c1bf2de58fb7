"""A comparison that is interrupted and goes on from its finished parts."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from edgeq.comparison import Comparison, compare
from edgeq.errors import InputError
from edgeq.tflite.metadata import Overrides

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pair(mobilenet_models: Path) -> Pair:
    fp32, int8 = (mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8"))
    return fp32, int8


def text(result: Comparison) -> str:
    document = result.to_json()
    for side in ("reference", "candidate"):
        del document[side]["latency_ms"]
    return json.dumps(document)


def interrupt_after(images: int) -> Callable[[str, int, int], None]:
    def progress(stage: str, done: int, total: int) -> None:
        if done >= images:
            raise KeyboardInterrupt

    return progress


def test_goes_on_from_the_finished_parts(pair: Pair, photos: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"resume": tmp_path / "run", "shard_images": 10}
    with pytest.raises(KeyboardInterrupt):
        compare(*pair, photos, progress=interrupt_after(25), **settings)
    kept = sorted(path.name for path in (tmp_path / "run").glob("shard-*"))
    assert kept == ["shard-000000.json", "shard-000001.json"]
    seen: list[int] = []
    result = compare(*pair, photos, progress=lambda stage, done, total: seen.append(done), **settings)
    assert seen == [10, 20, *range(21, 37)]
    assert text(result) == text(compare(*pair, photos))
    assert result.flips


@pytest.fixture(scope="module")
def begun(pair: Pair, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A copy of the photos, and the folder of a comparison on them."""
    root = tmp_path_factory.mktemp("begun")
    shutil.copytree(photos, root / "photos")
    compare(*pair, root / "photos", resume=root / "run")
    return root / "photos", root / "run"


def test_refuses_other_models_settings_and_images(begun: tuple[Path, Path], pair: Pair, tmp_path: Path) -> None:
    photos, run = begun

    def message(reference: Path, candidate: Path, data: Path = photos, **settings: Any) -> str:
        with pytest.raises(InputError) as caught:
            compare(reference, candidate, data, resume=run, **settings)
        return str(caught.value).removeprefix(f"{run}: was begun with a different ")

    rest = "; give the same, or choose another --resume"
    assert message(pair[0], pair[0]) == f"candidate{rest}"
    assert message(*pair, shard_images=1001) == f"number of images in a part{rest}"
    assert message(*pair, overrides=Overrides(crop=0.5)) == f"preprocessing or labels{rest}"
    changed = shutil.copytree(photos, tmp_path / "photos")
    assert message(*pair, data=changed) == f"images{rest}"
    assert message(pair[1], pair[0], data=changed) == f"reference and candidate and images{rest}"


def test_refuses_a_folder_of_something_else(pair: Pair, photos: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match=r"holds files of something else \(notes.txt\)"):
        compare(*pair, photos, resume=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["notes.txt"]


@pytest.mark.parametrize(
    "content", ["", "[1]", "{}", '{"tally": {}, "processor": []}', '{"tally": [], "processor": 1}']
)
def test_names_a_damaged_part(begun: tuple[Path, Path], pair: Pair, content: str) -> None:
    photos, run = begun
    (part,) = run.glob("shard-*")
    whole = part.read_text()
    part.write_text(content)
    with pytest.raises(InputError, match=r"shard-000000\.json: is damaged; delete it and run the command again"):
        compare(*pair, photos, resume=run)
    part.write_text(whole)
    assert compare(*pair, photos, resume=run).images == 36


def test_a_note_lists_the_processors_if_they_differ(pair: Pair, photos: Path, tmp_path: Path) -> None:
    settings: dict[str, Any] = {"resume": tmp_path / "run", "shard_images": 20}
    assert "different processors" not in " ".join(compare(*pair, photos, **settings).notes)
    part = tmp_path / "run" / "shard-000001.json"
    document = json.loads(part.read_text())
    mine = " ".join(document["processor"])
    part.write_text(json.dumps(document | {"processor": ["aarch64", "asimddp"]}))
    (note,) = [note for note in compare(*pair, photos, **settings).notes if "different processors" in note]
    assert note.startswith(f"the models ran on different processors ({'; '.join(sorted(['aarch64 asimddp', mine]))})")
