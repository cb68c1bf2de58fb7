"""The second stage: train the networks, the most promising first, and stop the others early."""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import inf, isinf
from typing import TypeVar

from edgeq.comparison.metrics import wilson_interval
from edgeq.files import write_text
from edgeq.sweeping.front import Point, ranked
from edgeq.sweeping.halving import kept, rungs
from edgeq.sweeping.result import Status
from edgeq.sweeping.running import OutOfTimeError, TaskFailedError
from edgeq.sweeping.state import Candidate, State, log
from edgeq.training import Epoch, History, TrainingPlan

__all__ = ["train_networks"]

_Item = TypeVar("_Item")

_LARGEST_SHARE = 2.0  # of a rung's time for one network, in equal shares
_TO_FINISH = 2  # networks for which time is left to convert and measure them
_TO_REPORT_S = 5.0  # to measure the picks on the test photos, and to write the result


def train_networks(state: State) -> list[Candidate]:
    """Train by successive halving, and return the networks to finish, the most promising first.

    The first networks are the slowest ones within the limits, because larger networks are more accurate. Later ones are
    ranked by validation accuracy and latency, see `edgeq.sweeping.front.ranked`.
    """
    candidates = [candidate for candidate in state.candidates if candidate.measured]
    alive = sorted(candidates, key=lambda candidate: -candidate.latency_ms)
    if state.plan.training is None:
        return alive
    plan = state.plan.training
    targets = rungs(plan.all_epochs, len(alive)) if _epochs_are_long(plan) else [plan.all_epochs]
    for rung, target in enumerate(targets):
        if target != targets[-1] and kept(len(alive)) == len(alive):
            continue  # nobody would be left out, and each interruption of a training takes time
        _train_rung(state, alive, target, _left_at_end(state, alive, len(targets) - rung))
        alive = _by_rank(state, alive, target)
        if rung < len(targets) - 1:
            for candidate in alive[kept(len(alive)) :]:
                _stop(state, candidate, plan.all_epochs)
            alive = alive[: kept(len(alive))]
    return alive


def _epochs_are_long(plan: TrainingPlan) -> bool:
    """Return whether epochs take most of the time: not if only the head is trained, on stored features."""
    return plan.is_from_scratch or bool(plan.fine_tune)


def _left_at_end(state: State, alive: list[Candidate], rungs_left: int) -> float:
    """Return how many seconds must be left at the end of a rung.

    The rungs share the time evenly, except for that of converting and measuring networks in the end.
    """
    if isinf(state.budget.left):
        return -inf
    reserve = state.pace.finish_s * min(len(alive), _TO_FINISH) + _TO_REPORT_S
    return reserve + (state.budget.left - reserve) * (1 - 1 / rungs_left)


def _train_rung(state: State, alive: list[Candidate], target: int, left_at_end: float) -> None:
    """Train all networks of a rung up to a number of epochs.

    Args:
        state: the sweep.
        alive: the networks.
        target: number of epochs.
        left_at_end: how many seconds of the budget must be left at the end of the rung.
    """

    def train(numbered: tuple[int, Candidate]) -> None:
        done, candidate = numbered
        epochs = len(state.epochs(candidate))
        if epochs >= target or state.store.training(candidate.name).is_file():
            return
        left_s = state.budget.left - left_at_end
        share = _LARGEST_SHARE * left_s * state.runner.parallel / (len(alive) - done)
        state.progress(f"Training to epoch {target}", done, len(alive))
        if left_s > 0:
            _train(state, candidate, target, min(left_s, share))
        elif not any(state.epochs(c) for c in alive) and state.budget.left > state.pace.finish_s:
            _train(state, candidate, target, 0.0)  # one epoch, so that there is a network to finish

    _on_all(state, train, list(enumerate(alive)))
    state.progress(f"Training to epoch {target}", len(alive), len(alive))


def _on_all(state: State, work: Callable[[_Item], None], items: Sequence[_Item]) -> None:
    """Call a function for each item, as many at the same time as the runner runs tasks."""
    if state.runner.parallel < 2:
        for item in items:
            work(item)
        return
    with ThreadPoolExecutor(state.runner.parallel) as pool:
        pending = [pool.submit(work, item) for item in items]
        try:
            for future in pending:
                future.result()
        except BaseException:
            for future in pending:
                future.cancel()
            state.runner.close()  # the tasks that run get an error
            raise


def _train(state: State, candidate: Candidate, target: int, seconds: float) -> None:
    """Train one network for at least one epoch, and then at most for some seconds.

    It is ended amid an epoch only if the budget would not leave the time to finish one network.
    """
    plan = state.plan.training_of(candidate.architecture)
    limited = not isinf(seconds)
    started = time.monotonic()
    try:
        state.runner.run(
            "train_for",
            seconds=max(1.0, state.budget.left - state.pace.finish_s) if limited else None,
            folder=str(state.folder),
            out=str(state.store.training(candidate.name)),
            plan=plan.to_json(),
            epochs=target,
            limit_s=seconds if limited else None,
        )
    except OutOfTimeError:
        pass  # the epochs that are complete remain
    except TaskFailedError as error:
        candidate.update(status=Status.UNUSABLE, reason=str(error))
        log.info("%s: %s", candidate.name, error)
        return
    _record(state, candidate)
    epochs = state.epochs(candidate)
    if epochs:
        log.info(
            "%s: %d of %d epochs, validation top-1 %.1f %% (%.0f s)",
            candidate.name,
            len(epochs),
            plan.all_epochs,
            100 * max(epoch.validation_top1 for epoch in epochs),
            time.monotonic() - started,
        )


def _record(state: State, candidate: Candidate) -> None:
    """Store what is known of a network's training in its cells."""
    epochs = state.epochs(candidate)
    if epochs:
        best = max(epoch.validation_top1 for epoch in epochs)
        for cell in candidate.measured:
            state.store.write_history(cell, candidate.name)
        candidate.update(candidate.measured, epochs=len(epochs), float_top1=best)


def _by_rank(state: State, candidates: list[Candidate], target: int) -> list[Candidate]:
    """Sort networks that were trained at all by how promising they are after a number of epochs."""
    trained = {c.name: c for c in candidates if c.measured and state.epochs(c)}
    points = {
        name: Point(_score(state.epochs(c)[:target], len(state.photos.validation), state.photos.classes), c.latency_ms)
        for name, c in trained.items()
    }
    return [trained[name] for name in ranked(points)]


def _score(epochs: Sequence[Epoch], photos: int, classes: int) -> float:
    """Return the accuracy by which a network is ranked: the best validation accuracy.

    In the first epochs of a training from scratch, the moving averages of batch normalization lag behind the weights,
    and the validation accuracy can be that of chance. The accuracy on the training photos then says more.

    Args:
        epochs: the epochs so far.
        photos: number of validation photos.
        classes: number of classes.
    """
    best = max(epoch.validation_top1 for epoch in epochs)
    _, chance = wilson_interval(photos / classes, photos)
    return best if best > chance else max(best, *(epoch.top1 for epoch in epochs))


def _stop(state: State, candidate: Candidate, epochs: int) -> None:
    """Mark a network as stopped, and delete what only its training needs."""
    folder = state.store.training(candidate.name).with_suffix(".keras.training")
    done = state.epochs(candidate)
    if folder.is_dir():
        history = state.store.network(candidate.name) / f"{candidate.name}.history.json"
        write_text(history, History({}, done).to_json())
        shutil.rmtree(folder)
    reason = f"stopped after {len(done)} of {epochs} epochs, others were more promising"
    candidate.update(candidate.measured, status=Status.STOPPED, reason=reason)
