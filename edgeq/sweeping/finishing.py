"""The last stage: convert the trained networks, measure their files, and choose the best."""

from __future__ import annotations

import time
from math import isinf
from pathlib import Path

from edgeq.calibration import MINIMUM_IMAGES
from edgeq.sweeping.front import Point, best_trade, fastest, most_accurate, pareto_front
from edgeq.sweeping.result import CellAccuracy, Status, SweepCell, SweepPicks
from edgeq.sweeping.running import OutOfTimeError, TaskFailedError
from edgeq.sweeping.state import Candidate, State, log

__all__ = ["choose", "finish_networks", "measure_picks"]

_GRACE = 0.08  # part of the budget by which this stage may exceed it before its task is ended


def finish_networks(state: State, candidates: list[Candidate]) -> None:
    """Convert networks with their final weights, and measure their files on the validation photos.

    If there is a budget, this stops when another network would not fit into it. The first one is tried in any case.

    Args:
        state: the sweep.
        candidates: the networks, the most promising first.
    """
    left = [c for c in candidates if any(cell.status != Status.FINISHED for cell in c.measured)]
    for done, candidate in enumerate(left):
        started = time.monotonic()
        fits = state.budget.left > state.pace.finish_s
        if not fits and any(cell.status == Status.FINISHED for cell in state.cells):
            return
        state.progress("Converting and measuring", done, len(left))
        try:
            _finish(state, candidate)
        except OutOfTimeError:
            return
        except TaskFailedError as error:
            candidate.update(candidate.measured, status=Status.UNUSABLE, reason=str(error))
            log.info("%s: %s", candidate.name, error)
            continue
        state.pace.finish_s = time.monotonic() - started
        for cell in candidate.measured:
            if cell.validation:
                log.info("%s: top-1 %.1f %%, %.3g ms", cell.name, 100 * cell.validation.top1, cell.latency_ms)
    state.progress("Converting and measuring", len(left), len(left))


def _finish(state: State, candidate: Candidate) -> None:
    """Convert one network and measure its files."""
    plan, trains = state.plan, state.plan.training is not None
    keras_file = state.store.training(candidate.name)
    if trains and not keras_file.is_file():  # the budget ended: take the best epoch so far
        state.runner.run(
            "train_for",
            seconds=_seconds(state),
            folder=str(state.folder),
            out=str(keras_file),
            plan=plan.training_of(candidate.architecture).to_json(),
            epochs=0,
            limit_s=None,
        )
    own_photos = str(state.folder) if trains and state.photos.training >= MINIMUM_IMAGES else None
    files = state.runner.run(
        "finish",
        seconds=_seconds(state),
        source=str(keras_file) if trains else None,
        architecture=candidate.description,
        formats=[cell.format for cell in candidate.measured],
        out=str(state.store.network(candidate.name)),
        calibration=own_photos if trains else plan.calibration,
        calibration_count=plan.calibration_count,
        seed=plan.seed,
    )["files"]
    epochs = state.epochs(candidate)
    for cell in candidate.measured:
        path = Path(files[cell.format])
        accuracy = _measure(state, files["fp32"], path, state.lists[0])
        if trains:
            state.store.write_history(cell, candidate.name)
        candidate.update(
            [cell],
            status=Status.FINISHED,
            reason="",
            size_bytes=path.stat().st_size,
            validation=accuracy,
            epochs=len(epochs),
            float_top1=max((epoch.validation_top1 for epoch in epochs), default=None),
            file=state.store.keep_file(cell, path),
        )


def _seconds(state: State) -> float | None:
    """Return the time after which a task of this stage is ended."""
    if isinf(state.budget.left):
        return None
    return max(1.0, state.budget.left + _GRACE * state.budget.seconds)


def _measure(state: State, reference: str | Path, file: Path, photos: Path) -> CellAccuracy:
    """Measure a file on a list of photos."""
    answer = state.runner.run(
        "measure",
        seconds=_seconds(state),
        tensorflow=False,
        reference=str(reference),
        candidate=str(file),
        data=str(photos),
        runtime=None,
    )
    return CellAccuracy.from_json(answer["accuracy"])


def choose(cells: list[SweepCell], min_top1: float | None) -> tuple[tuple[str, ...], SweepPicks | None]:
    """Return the Pareto front of the finished cells, the fastest first, and the picks; None if no cell is finished."""
    points = {
        cell.name: Point(cell.validation.top1, cell.latency_ms)
        for cell in cells
        if cell.status == Status.FINISHED and cell.validation and cell.latency_ms is not None
    }
    if not points:
        return (), None
    picks = SweepPicks(most_accurate(points), fastest(points, min_top1), best_trade(points))
    return tuple(pareto_front(points)), picks


def measure_picks(state: State, picks: SweepPicks) -> None:
    """Measure the picks on the test photos, which nothing else uses."""
    names = {picks.most_accurate, picks.fastest, picks.best_trade}
    for candidate in state.candidates:
        for cell in candidate.measured:
            if cell.name not in names and cell.test:  # picked by an earlier run of the sweep, but no more
                candidate.update([cell], test=None)
            if cell.name in names and not cell.test:
                folder = state.store.network(candidate.name)
                fp32, file = (folder / f"{candidate.name}_{form}.tflite" for form in ("fp32", cell.format))
                try:
                    candidate.update([cell], test=_measure(state, fp32, file, state.lists[1]))
                except OutOfTimeError:
                    log.info("%s: the budget ended before the test", cell.name)
