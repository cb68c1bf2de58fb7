"""The folder of a sweep: what it refuses, keeps and forgets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from edgeq.errors import InputError
from edgeq.networks import Architecture
from edgeq.sweeping import CellAccuracy, CellLatency, Status, SweepCell
from edgeq.sweeping.store import Store
from edgeq.training import Epoch, History

SETTINGS: dict[str, Any] = {"--res": [[96, 96]], "--max-ms": 30.0, "photos": "abc"}
CELL = SweepCell.of(Architecture(height=32, width=32, output_stride=8, classes=3), "int8")


def begin(folder: Path) -> None:
    """A sweep that has built one network."""
    with Store.enter(folder, SETTINGS, resume=False) as store:
        (store.network("a") / "random").mkdir()
        (store.network("a") / "random" / "a_int8.tflite").write_bytes(b"model")


def test_it_is_continued_only_with_the_same_settings(tmp_path: Path) -> None:
    begin(tmp_path / "s")
    with Store.enter(tmp_path / "s", SETTINGS, resume=True):
        pass
    with pytest.raises(InputError, match=r"other settings \(--max-ms, photos\); give the same"):
        Store.enter(tmp_path / "s", SETTINGS | {"--max-ms": 31, "photos": "abd"}, resume=True)


def test_what_it_refuses(tmp_path: Path) -> None:
    begin(tmp_path / "s")
    with pytest.raises(InputError, match="holds a sweep; continue it with --resume"):
        Store.check(tmp_path / "s", resume=False)
    with pytest.raises(InputError, match="no sweep to resume; omit --resume"):
        Store.check(tmp_path / "none", resume=True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "letter.txt").touch()
    with pytest.raises(InputError, match=r"holds files that no sweep wrote \(letter.txt\)"):
        Store.check(tmp_path / "other", resume=False)
    with pytest.raises(InputError, match="is not a folder"):
        Store.check(tmp_path / "other" / "letter.txt", resume=False)
    with (
        Store.enter(tmp_path / "s", SETTINGS, resume=True),
        pytest.raises(InputError, match="another sweep is running there"),
    ):
        Store.enter(tmp_path / "s", SETTINGS, resume=True)


def test_a_failure_before_any_work_leaves_nothing(tmp_path: Path) -> None:
    def fail(folder: Path) -> None:
        with Store.enter(folder, SETTINGS, resume=False) as store:
            store.write_cell(CELL)
            store.write_spent(1)
            raise InputError("no weights")

    with pytest.raises(InputError, match="no weights"):
        fail(tmp_path / "s")
    assert list(tmp_path.iterdir()) == []


def test_a_cell_comes_back_as_it_was(tmp_path: Path) -> None:
    accuracy = CellAccuracy(10, 0.9, (0.6, 0.98), 1.0, (0.72, 1.0))
    latency = CellLatency("pi@kitchen", "Raspberry Pi 4", "x86_64", "tflite-runtime 2.14", 1, 50, 12.5, 13.0, None)
    done = SweepCell(
        *(CELL.name, CELL.network, CELL.alpha, 32, 32, 8, "int8", Status.FINISHED, "", 1000, (latency,), 3, 0.9),
        validation=accuracy,
        file="cells/a/a.tflite",
    )
    with Store.enter(tmp_path / "s", SETTINGS, resume=False) as store:
        assert store.read_cell(CELL) == CELL
        store.write_cell(done)
        assert store.read_cell(CELL) == done
        assert store.read_spent() == 0
        store.write_spent(12.34)
        assert store.read_spent() == 12.3


def test_the_epochs_of_a_training_and_its_file(tmp_path: Path) -> None:
    epochs = [Epoch("head", number, 1.0, 0.5, 1.0, 0.5, 1.0) for number in (1, 2)]
    with Store.enter(tmp_path / "s", SETTINGS, resume=False) as store:
        assert store.epochs("a") == []
        folder = store.network("a") / "a.keras.training"
        folder.mkdir()
        (folder / "history.json").write_text(History({}, epochs[:1]).to_json())
        assert store.epochs("a") == epochs[:1]  # in progress
        (folder / "history.json").unlink()
        (store.network("a") / "a.history.json").write_text(History({"seed": 0}, epochs).to_json())
        assert store.epochs("a") == epochs  # finished
        store.write_history(CELL, "a")
        kept = tmp_path / "s" / "cells" / CELL.name / "history.json"
        assert History.from_json(kept.read_text()) == History({"seed": 0}, epochs)
        model = tmp_path / "model.tflite"
        model.write_bytes(b"model")
        assert store.keep_file(CELL, model) == f"cells/{CELL.name}/model.tflite"
        assert (kept.parent / "model.tflite").read_bytes() == b"model"
