"""The whole way on a small grid: measured, pruned, trained, converted, chosen, interrupted and resumed."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import edgeq
from edgeq.errors import DeviceError, InputError
from edgeq.sweeping import Status, Sweep, SweepGrid, SweepLimits, SweepPlan, sweep
from edgeq.training import History, TrainingPlan

pytest.importorskip("tensorflow")

SMALL, LARGE = "mobilenet_v3_small_minimalistic_0.35_32_os8", "mobilenet_v3_small_minimalistic_0.35_192"
SCRATCH = TrainingPlan.from_scratch(epochs=2, batch=8)


def plan(**changes: Any) -> SweepPlan:
    """Two networks; the larger one computes 9 times as much."""
    grid = SweepGrid(("mobilenet_v3_small_minimalistic",), (0.35,), ((32, 32), (192, 192)), formats=("fp32",))
    return replace(SweepPlan(grid, SCRATCH, seconds=0.1), **changes)


@pytest.fixture(scope="module")
def measured(photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str]:
    """A sweep that no cell's latency met, and what it said."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    with pytest.raises(InputError) as caught:
        sweep(photos, out, plan(limits=SweepLimits(max_ms=1e-6)))
    return out, str(caught.value)


def cells_of(out: Path) -> dict[str, dict[str, Any]]:
    return {path.parent.name: json.loads(path.read_text()) for path in out.glob("cells/*/cell.json")}


@pytest.fixture(scope="module")
def swept(measured: tuple[Path, str], photos: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Sweep]:
    """The same sweep with a limit between the two latencies, which is interrupted after they are measured."""
    out = tmp_path_factory.mktemp("sweep") / "out"
    shutil.copytree(measured[0], out)
    times = [cell["latency_ms"] for cell in cells_of(out).values()]
    chosen = plan(limits=SweepLimits(max_ms=float(np.sqrt(times[0] * times[1]))))
    settings = json.loads((out / "settings.json").read_text())
    (out / "settings.json").write_text(json.dumps(settings | chosen.settings()))
    for path in out.glob("cells/*/cell.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"status": Status.WAITING, "reason": ""}))
    return out, sweep(photos, out, chosen, resume=True)


def test_no_cell_meets_the_limits(measured: tuple[Path, str]) -> None:
    out, said = measured
    cells = cells_of(out)
    assert said.startswith(f"no cell meets the limits; the nearest is {SMALL}_fp32: ")
    assert said.endswith("ms is above 1e-06 ms")
    assert {cell["status"] for cell in cells.values()} == {Status.OVER_LIMIT}
    assert cells[f"{LARGE}_fp32"]["latency_ms"] > 2 * cells[f"{SMALL}_fp32"]["latency_ms"]
    assert not list(out.glob("networks/*/*.keras*"))


@pytest.mark.accept
def test_a_cell_over_the_limit_is_never_trained(swept: tuple[Path, Sweep]) -> None:
    out, found = swept
    over, within = found.cell(f"{LARGE}_fp32"), found.cell(f"{SMALL}_fp32")
    assert over.status == Status.OVER_LIMIT
    assert over.reason.endswith(f"ms is above {found.settings['--max-ms']:g} ms")
    assert (over.epochs, over.validation, over.file) == (0, None, None)
    assert [path.name for path in (out / "networks" / LARGE).iterdir()] == ["random"]
    assert within.status == Status.FINISHED


@pytest.mark.accept
def test_the_result_is_that_of_its_files(swept: tuple[Path, Sweep], photos: Path) -> None:
    out, found = swept
    cell = found.cell(f"{SMALL}_fp32")
    assert cell.file is not None
    assert cell.size_bytes == (out / cell.file).stat().st_size
    again = edgeq.compare(out / cell.file, out / cell.file, out / "validation.csv")
    assert cell.validation is not None
    assert (cell.validation.top1, cell.validation.images) == (again.candidate.top1, found.validation_photos)
    assert cell.test is not None
    assert cell.test.images == found.test_photos == 6
    assert found.picks is not None
    assert found.picks.most_accurate == found.picks.fastest == found.picks.best_trade == cell.name
    history = History.from_json((out / "cells" / cell.name / "history.json").read_text())
    assert [epoch.number for epoch in history.epochs] == [1, 2]
    assert cell.float_top1 == max(epoch.validation_top1 for epoch in history.epochs)
    assert Sweep.from_json(json.loads((out / "sweep.json").read_text())) == found
    assert cells_of(out) == json.loads(json.dumps({cell.name: cell.to_json() for cell in found.cells}))
    assert found.training_photos + found.validation_photos + found.test_photos == 36


@pytest.mark.accept
def test_a_finished_sweep_is_not_done_again(swept: tuple[Path, Sweep], photos: Path) -> None:
    out, found = swept
    before = {path: path.stat().st_mtime_ns for path in out.glob("networks/**/*") if path.is_file()}
    chosen = plan(limits=SweepLimits(max_ms=found.settings["--max-ms"]))
    again = sweep(photos, out, chosen, resume=True, budget_s=1e6)
    assert (again.cells, again.picks) == (found.cells, found.picks)
    assert again.seconds > found.seconds
    assert {path: path.stat().st_mtime_ns for path in before} == before
    with pytest.raises(InputError, match=r"other settings \(--max-ms\)"):
        sweep(photos, out, plan(), resume=True)
    with pytest.raises(InputError, match="holds a sweep"):
        sweep(photos, out, chosen)


class TestErrors:
    """Each is noticed before any work, and leaves no folder."""

    @pytest.mark.parametrize(
        ("name", "message"),
        [("none", "no such folder"), ("empty", "no images|no sub-folder"), ("one", "one sub-folder")],
    )
    def test_wrong_photos(self, name: str, message: str, photos: Path, tmp_path: Path) -> None:
        (tmp_path / "empty").mkdir()
        (tmp_path / "one").mkdir()
        shutil.copytree(photos / "red", tmp_path / "one" / "red")
        with pytest.raises(InputError, match=message):
            sweep(tmp_path / name, tmp_path / "out", plan())
        assert not (tmp_path / "out").exists()

    def test_a_result_among_the_photos(self, photos: Path) -> None:
        with pytest.raises(InputError, match="lies among the photos"):
            sweep(photos, photos / "out", plan())

    def test_a_board_that_cannot_be_reached(
        self, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setenv("EDGEQ_SSH", "false")
        monkeypatch.setattr("edgeq.device.device._WAITS_S", ())
        with pytest.raises(DeviceError, match="pi@nowhere"):
            sweep(photos, tmp_path / "out", plan(on=("pi@nowhere",)))
        assert not (tmp_path / "out").exists()

    @pytest.mark.accept
    def test_no_weights_exist(self, photos: Path, tmp_path: Path) -> None:
        grid = SweepGrid(("mobilenet_v3_small",), (0.35,), ((96, 96),))
        with pytest.raises(InputError, match=r"no ImageNet weights exist for .* of width multiplier 0\.35"):
            sweep(photos, tmp_path / "out", plan(grid=grid, training=TrainingPlan()))
        assert not (tmp_path / "out").exists()

    def test_a_budget_that_is_too_small(self, photos: Path, tmp_path: Path) -> None:
        with pytest.raises(InputError, match="--budget: ended before one cell was measured"):
            sweep(photos, tmp_path / "out", plan(), budget_s=0.01)
