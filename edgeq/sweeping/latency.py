"""The first stage: measure every cell's latency, size and memory, and drop what misses a limit."""

from __future__ import annotations

import time
from collections.abc import Sequence
from math import inf, isinf
from pathlib import Path

from edgeq.benchmarking import Benchmark, Measurement, bench, bench_devices
from edgeq.errors import InputError
from edgeq.sweeping.result import CellLatency, Status, SweepCell
from edgeq.sweeping.running import OutOfTimeError, TaskFailedError
from edgeq.sweeping.state import Candidate, State, log

__all__ = ["drop_without_weights", "measure_latencies"]

_BATCH = 12  # models that take turns; an interruption loses the measurements of one batch
_SHARE_OF_BUDGET = 0.5  # the largest part of the budget for this stage
_FINISH_PER_BUILD = 2.0  # finishing a network takes about twice as long as building it: refinement, measurements
_HERE = "here"

Waiting = list[tuple[Candidate, SweepCell, Path]]


def drop_without_weights(state: State) -> None:
    """Drop the networks for which no ImageNet weights exist, if the sweep needs them.

    Raises:
        InputError: no network is left.
    """
    if state.plan.training is not None and state.plan.training.is_from_scratch:
        return
    asked = [c for c in state.candidates if any(cell.status == Status.WAITING for cell in c.cells.values())]
    if not asked:
        return
    state.progress("Finding weights", 0, 1)
    descriptions = [candidate.description | {"classes": 1000} for candidate in asked]
    missing = state.runner.run("missing_weights", architectures=descriptions)["missing"]
    for candidate in asked:
        if candidate.name in missing:
            candidate.update(status=Status.UNUSABLE, reason=missing[candidate.name])
            log.info("%s: not trained: %s", candidate.name, missing[candidate.name])
    if not any(candidate.usable for candidate in state.candidates):
        raise InputError(next(cell.reason for cell in state.cells))


def measure_latencies(state: State) -> None:
    """Build every network with random weights, measure its files, and drop the cells that miss a limit.

    Raises:
        InputError: no cell meets the limits, or the budget ended before anything was measured.
        DeviceError: a board cannot be used.
    """
    waiting: Waiting = []
    candidates = [candidate for candidate in state.candidates if candidate.usable]
    for done, candidate in enumerate(candidates):
        state.progress("Building networks", done, len(candidates))
        unmeasured = [cell for cell in candidate.usable if not cell.latencies]
        if unmeasured and _time_left(state) > 0:
            waiting += _build(state, candidate, unmeasured)
    state.progress("Building networks", len(candidates), len(candidates))
    for start in range(0, len(waiting), _BATCH):
        batch = waiting[start : start + _BATCH]
        if _time_left(state) > 0:
            _measure(state, batch, start, len(waiting))
    _drop_over_limit(state)


def _time_left(state: State) -> float:
    """Return how much time this stage may still take."""
    if isinf(state.budget.seconds):
        return inf
    return state.budget.left - (1 - _SHARE_OF_BUDGET) * state.budget.seconds


def _build(state: State, candidate: Candidate, cells: Sequence[SweepCell]) -> Waiting:
    """Convert a network with random weights, unless its files are there; return its cells with their files."""
    folder = state.store.network(candidate.name) / "random"
    files = {cell.format: folder / f"{candidate.name}_{cell.format}.tflite" for cell in cells}
    if not all(path.is_file() for path in files.values()):
        started = time.monotonic()
        try:
            built = state.runner.run(
                "build",
                seconds=max(1.0, state.budget.left),
                architecture=candidate.description,
                formats=list(files),
                out=str(folder),
            )
        except OutOfTimeError:
            return []
        except TaskFailedError as error:
            built = {"files": {}, "errors": dict.fromkeys(files, str(error))}
        state.pace.finish_s = _FINISH_PER_BUILD * (time.monotonic() - started)
        for cell in cells:
            if cell.format not in built["files"]:
                candidate.update([cell], status=Status.UNUSABLE, reason=built["errors"][cell.format])
    return [(candidate, cell, files[cell.format]) for cell in cells if files[cell.format].is_file()]


def _measure(state: State, batch: Waiting, before: int, total: int) -> None:
    """Measure a batch of cells on every board, and store the results."""
    plan, paths = state.plan, [str(path) for _, _, path in batch]

    def progress(stage: str, done: int, count: int) -> None:
        state.budget.tick()
        if stage == "Measuring":
            state.progress("Measuring latencies", count * before + len(batch) * done, count * total)
        else:
            state.progress(stage, done, count)

    how = {"runtimes": [plan.runtime], "threads": [plan.threads], "kernels": ["default"], "seconds": plan.seconds}
    found: dict[str, Benchmark] = {}
    if plan.on:
        for outcome in bench_devices(paths, plan.on, **how, progress=progress):  # type: ignore[arg-type]
            if outcome.error:
                raise outcome.error
            assert outcome.result
            found[outcome.device] = outcome.result
    else:
        found[_HERE] = bench(paths, **how, progress=progress)  # type: ignore[arg-type]
    for candidate, cell, path in batch:
        latencies, failures = [], []
        for device, result in found.items():
            failures += [f"{device}: {failure.reason}" for failure in result.failures if failure.model == str(path)]
            latencies += [_latency(device, result, m) for m in result.measurements if m.model == str(path)]
        if failures:
            candidate.update([cell], status=Status.UNUSABLE, reason=failures[0])
        else:
            candidate.update([cell], latencies=tuple(latencies), size_bytes=path.stat().st_size)


def _latency(device: str, result: Benchmark, measured: Measurement) -> CellLatency:
    machine = result.before
    return CellLatency(
        device=device,
        machine=machine.model or machine.architecture,
        emulated_by=machine.emulated_by,
        runtime=f"{measured.runtime} ({measured.kernels})",
        threads=measured.threads,
        runs=measured.runs,
        median_ms=measured.median_ms,
        p90_ms=measured.p90_ms,
        peak_rss_bytes=measured.peak_rss_bytes,
    )


def _drop_over_limit(state: State) -> None:
    """Drop the cells that miss a limit, and log how many."""
    limits = state.plan.limits
    for candidate in state.candidates:
        for cell in candidate.usable:
            if cell.latency_ms is None or cell.size_bytes is None:
                continue
            missed = limits.missed(cell.latency_ms, cell.size_bytes, cell.peak_rss_bytes)
            if missed and cell.status == Status.WAITING:
                candidate.update([cell], status=Status.OVER_LIMIT, reason=missed)
    measured = [cell for cell in state.cells if cell.latency_ms is not None]
    within = [cell for cell in measured if cell.status != Status.OVER_LIMIT]
    log.info("Measured %d of %d cells; %d meet the limits.", len(measured), len(state.cells), len(within))
    if not measured:
        broken = [cell.reason for cell in state.cells if cell.status == Status.UNUSABLE]
        raise InputError(broken[0] if broken else "--budget: ended before one cell was measured; allow more time")
    if not within:
        nearest = min(measured, key=lambda c: limits.excess(c.latency_ms or 0, c.size_bytes or 0, c.peak_rss_bytes))
        raise InputError(f"no cell meets the limits; the nearest is {nearest.name}: {nearest.reason}")
