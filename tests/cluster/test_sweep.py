"""A sweep whose networks are trained, converted and evaluated on a Dask cluster."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from cluster.dask_cluster import DaskCluster
from edgeq.sweeping import Status, SweepGrid, SweepPlan, sweep
from edgeq.training import TrainingPlan

pytest.importorskip("distributed")
pytest.importorskip("tensorflow")


@pytest.mark.accept
def test_a_sweep_on_two_workers(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any, **settings: Any) -> None:
        raise AssertionError("a task of the sweep runs here")

    monkeypatch.setattr("edgeq.sweeping.running.WorkerProcess", refuse)
    monkeypatch.chdir(photos.parent)
    grid = SweepGrid(("mobilenet_v3_small_minimalistic",), (0.35, 0.5), ((32, 32),), formats=("fp32",))
    plan = SweepPlan(grid, TrainingPlan.from_scratch(epochs=2, batch=8), seconds=0.1)
    with DaskCluster(tmp_path / "dask", workers=2) as cluster:
        found = sweep(photos.name, tmp_path / "out", plan, scheduler=cluster.address)
    assert {cell.status for cell in found.cells} == {Status.FINISHED}
    assert {cell.epochs for cell in found.cells} == {2}
    assert all(cell.validation for cell in found.cells)
    assert {latency.device for cell in found.cells for latency in cell.latencies} == {"here"}
    assert all(cell.latency_ms and math.isfinite(cell.latency_ms) for cell in found.cells)
    assert found.picks
    assert found.cell(found.picks.most_accurate).test
