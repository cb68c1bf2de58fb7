"""What pruning costs and saves: a sweep against training every network of its grid fully."""

from __future__ import annotations

import resource
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pytest

from edgeq.sweeping import CellAccuracy, SweepGrid, SweepPlan, sweep
from edgeq.sweeping.running import TaskRunner
from edgeq.training import TrainingPlan

PER_CLASS = 100  # enough that training, and not its start, takes most of the time
EPOCHS = 54


@pytest.fixture(scope="module")
def pictures(shared: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first pictures of each class of CIFAR-10, as files."""
    root = tmp_path_factory.mktemp("cifar10")
    with np.load(shared / "data" / "cifar10" / "train.npz") as data:
        jpeg, offsets, labels, classes = (data[name] for name in ("jpeg", "offsets", "labels", "classes"))
    for index, name in enumerate(classes):
        (root / str(name)).mkdir()
        for i in np.flatnonzero(labels == index)[:PER_CLASS]:
            (root / str(name) / f"{i:05}.jpg").write_bytes(jpeg[offsets[i] : offsets[i + 1]].tobytes())
    return root


def processor_seconds() -> float:
    """Time of all processes that this one has started and that have ended; the machine may be busy otherwise."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


@pytest.mark.accept
def test_the_pick_is_as_good_as_that_of_full_training_in_half_the_time(pictures: Path, tmp_path: Path) -> None:
    grid = SweepGrid(
        ("mobilenet_v3_small_minimalistic",),
        (0.35, 0.5, 0.75, 1.0),
        ((32, 32),),
        output_strides=(16, 32),
        formats=("fp32",),
    )
    plan = SweepPlan(grid, TrainingPlan.from_scratch(epochs=EPOCHS, batch=32), seconds=0.2, test_share=0.1)
    begun = processor_seconds()
    found = sweep(pictures, tmp_path / "sweep", plan)
    pruned = processor_seconds() - begun
    assert found.picks is not None
    picked = found.cell(found.picks.most_accurate).validation
    assert picked is not None

    begun = processor_seconds()
    accuracies = []
    with TaskRunner(lambda: None) as runner:
        for architecture in grid.architectures(found.classes):
            out = tmp_path / "full" / architecture.name
            runner.run(
                "train_for",
                folder=str(pictures),
                out=f"{out}.keras",
                plan=plan.training_of(architecture).to_json(),
                epochs=EPOCHS,
                limit_s=None,
            )
            files = runner.run(
                "finish",
                source=f"{out}.keras",
                architecture=asdict(architecture),
                formats=["fp32"],
                out=str(out),
                calibration=None,
                calibration_count=100,
                seed=0,
            )["files"]
            lists = str(tmp_path / "sweep" / "validation.csv")
            measured = runner.run(
                "measure", tensorflow=False, reference=files["fp32"], candidate=files["fp32"], data=lists, runtime=None
            )
            accuracies.append(CellAccuracy.from_json(measured["accuracy"]))
    full = processor_seconds() - begun
    best = max(accuracies, key=lambda accuracy: accuracy.top1)
    print(f"pruned: {picked.top1:.3f} {picked.top1_ci95} in {pruned:.0f} s, full: {best.top1:.3f} in {full:.0f} s")
    assert picked.top1_ci95[1] >= best.top1_ci95[0]  # the intervals overlap
    assert pruned <= full / 2
