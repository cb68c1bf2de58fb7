"""Sweep a grid of networks: measure latencies, train the promising ones, convert them and choose the best."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import edgeq
from edgeq.errors import InputError
from edgeq.files import write_text
from edgeq.images import require_folder
from edgeq.networks.imagenet import IMAGENET_CLASSES
from edgeq.progress import Progress, no_progress
from edgeq.sweeping.budget import Budget
from edgeq.sweeping.finishing import choose, finish_networks, measure_picks
from edgeq.sweeping.latency import drop_without_weights, measure_latencies
from edgeq.sweeping.photos import find_photos
from edgeq.sweeping.plan import SweepPlan
from edgeq.sweeping.result import Status, Sweep, SweepPicks
from edgeq.sweeping.running import TaskRunner
from edgeq.sweeping.state import Candidate, Pace, State
from edgeq.sweeping.store import Store
from edgeq.sweeping.training import train_networks

__all__ = ["RESULT", "sweep"]

RESULT = "sweep.json"
"""File of the result in the sweep's folder."""


def sweep(
    folder: str | Path,
    out: str | Path,
    plan: SweepPlan | None = None,
    *,
    budget_s: float | None = None,
    resume: bool = False,
    scheduler: str | None = None,
    progress: Progress = no_progress,
) -> Sweep:
    """Find the network for a folder of photos and a board, by measurement.

    First, the latency of every cell of the grid is measured, with random weights. The networks within the limits are
    then trained by successive halving. Those that remain are converted, and their files are measured. The result is
    also written to ``OUT/sweep.json``. Interrupted at any time, a sweep can be resumed. Each step is logged.

    Example:
        >>> grid = edgeq.SweepGrid(alphas=(0.35, 1.0), sizes=((96, 96), (160, 160)), formats=("int8", "fp32"))
        >>> plan = edgeq.SweepPlan(grid, limits=edgeq.SweepLimits(max_ms=30), on=("pi@raspberrypi",))
        >>> found = edgeq.sweep("photos/", "sweep", plan, budget_s=7200)
        >>> found.picks.most_accurate
        'mobilenet_v2_1.0_160_int8'

    Args:
        folder: folder of photos with one sub-folder per class; for networks with ImageNet weights, photos of its
            classes.
        out: folder for all files.
        plan: what to try and how; None for the defaults of `SweepPlan`.
        budget_s: time in seconds that all runs of this sweep may take together; None for no limit. It may be changed
            when a sweep is resumed.
        resume: whether to continue an interrupted sweep with the same plan and photos.
        scheduler: address of a Dask scheduler, whose workers build, train, convert and evaluate the networks; None for
            this machine. The workers must see `folder` and `out` under the same paths. Latency is never measured on
            them.
        progress: called with (stage, done, total).

    Raises:
        InputError: the photos, an option or a file is unusable, no cell meets the limits, or the budget ended before
            one cell was finished.
        DeviceError: a board cannot be used.
        EdgeqError: TensorFlow is not installed, or the cluster cannot be used.
    """
    plan, target = plan or SweepPlan(), Path(out)
    budget = Budget(budget_s)
    plan.grid.architectures(IMAGENET_CLASSES)  # check it before anything that takes time
    _require_folders(Path(folder), target)
    Store.check(target, resume)
    with TaskRunner(budget.tick, scheduler) as runner:

        def imagenet_names() -> Sequence[str]:
            names: list[str] = runner.run("class_names")["names"]
            return names

        photos = find_photos(folder, plan, imagenet_names, progress)
        _require_boards(plan.on, progress)
        settings = plan.settings() | {"photos": photos.sha256, "version": edgeq.__version__}
        with Store.enter(target, settings, resume) as store:
            budget.keep(store.read_spent(), store.write_spent)
            architectures = plan.grid.architectures(photos.classes)
            candidates = tuple(Candidate(a, plan.grid.formats, store) for a in architectures)
            lists = photos.write_lists(target)
            state = State(plan, Path(folder), photos, lists, store, runner, budget, candidates, Pace(), progress)
            try:
                picks = _run(state)
            finally:
                budget.tick(at_once=True)
            result = _result(state, settings, picks)
            write_text(target / RESULT, json.dumps(result.to_json(), indent=1) + "\n")
    return result


def _require_folders(folder: Path, out: Path) -> None:
    """Raise an `InputError` if the photos do not exist, or the results would be taken for photos."""
    if folder.suffix.lower() != ".csv":
        require_folder(folder)
        if folder.resolve() in (out.resolve(), *out.resolve().parents):
            raise InputError(f"{out}: lies among the photos of {folder}; choose another --out")


def _require_boards(hosts: Sequence[str], progress: Progress) -> None:
    """Connect to every board once, so that an unreachable one is noticed before any work."""
    if not hosts:
        return
    from edgeq.device.fleet import on_each  # imported here: only boards need SSH

    for outcome in on_each(hosts, lambda device: device.machine(), progress):
        if outcome.error:
            raise outcome.error


def _run(state: State) -> SweepPicks | None:
    """Run all stages, and return the picks."""
    drop_without_weights(state)
    measure_latencies(state)
    finish_networks(state, train_networks(state))
    _, picks = choose(state.cells, state.plan.limits.min_top1)
    if picks is None:
        broken = [cell.reason for cell in state.cells if cell.status == Status.UNUSABLE]
        raise InputError(
            broken[0] if broken else "--budget: ended before one cell was finished; continue with --resume and more"
        )
    measure_picks(state, picks)
    return picks


def _result(state: State, settings: dict[str, Any], picks: SweepPicks | None) -> Sweep:
    """Gather the result, with a reason for each cell that is not finished."""
    waiting = [cell for cell in state.cells if cell.status == Status.WAITING]
    for candidate in state.candidates:
        candidate.update(
            [cell for cell in candidate.cells.values() if cell.status == Status.WAITING],
            reason="the budget ended",
        )
    photos, plan = state.photos, state.plan
    return Sweep(
        settings=settings,
        classes=photos.classes,
        training_photos=photos.training,
        validation_photos=len(photos.validation),
        test_photos=len(photos.test),
        epochs=plan.training.all_epochs if plan.training else 0,
        cells=tuple(state.cells),
        front=choose(state.cells, None)[0],
        picks=picks,
        seconds=state.budget.spent,
        notes=(*photos.notes, *_notes(state, len(waiting))),
    )


def _notes(state: State, waiting: int) -> list[str]:
    """Return notes on the sweep, as sentences without a full stop."""
    notes = []
    emulated = {
        f"{latency.device} is emulated on {latency.emulated_by}; a real board has other latencies"
        for cell in state.cells
        for latency in cell.latencies
        if latency.emulated_by
    }
    notes += sorted(emulated)
    if waiting:
        notes.append(f"the budget ended before {waiting} cells were trained or measured")
    training = state.plan.training
    early = {
        candidate.name
        for candidate in state.candidates
        for cell in candidate.cells.values()
        if training and cell.status == Status.FINISHED and 0 < cell.epochs < training.epochs
    }
    if early:
        notes.append(f"trained for fewer epochs than planned: {', '.join(sorted(early))}")
    return notes
