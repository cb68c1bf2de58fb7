"""Measure models in every configuration, on this machine or on devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.benchmarking.result import Benchmark
from edgeq.benchmarking.turns import ROUNDS, SHARE_OF_MEMORY, Configuration, ConfigurationRun, groups, take_turns
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.backend import Backend, WorkerBackend
from edgeq.execution.machine import Machine
from edgeq.execution.process import WorkerProcess
from edgeq.progress import Progress, no_progress

if TYPE_CHECKING:
    from edgeq.device.device import Device
    from edgeq.device.fleet import Outcome

__all__ = ["bench", "bench_devices"]

KERNELS = ("default", "built-in")  # with XNNPACK where it applies, and without it


def bench(
    models: str | Path | Sequence[str | Path],
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    kernels: Sequence[str] = KERNELS,
    seconds: float = 2.0,
    on: str | None = None,
    progress: Progress = no_progress,
) -> Benchmark:
    """Measure how fast models run with every runtime, with and without XNNPACK, on one thread and on several.

    Each configuration runs in its own process, so that its memory is measured alone and a crash affects no other. The
    configurations run alternately in short turns, because a machine's speed drifts with temperature and load. Turns
    spread the drift evenly: ratios between configurations are right even if absolute times are not.

    As many processes are alive at the same time as fit into a quarter of the available memory, but at least two unless
    memory is short. Models with the same runtime, threads and kernels always alternate. A configuration without XNNPACK
    is omitted if the default configuration does not use XNNPACK either.

    Args:
        models: one or several .tflite files of any kind; their inputs are noise.
        runtimes: names in ``edgeq.runtime.RUNTIMES``, or ``auto`` for the fastest that is installed; empty for all.
        threads: numbers of threads to measure; empty for 1, 2 and 4, up to the number of cores.
        kernels: ``default`` for XNNPACK where it applies, ``built-in`` for no XNNPACK, or both.
        seconds: total time to run each configuration, after the warm-up.
        on: a device, ``[user@]host[:port]``; None for this machine. See :func:`bench_devices`.
        progress: called with ("Measuring", turns done, number of turns).

    Raises:
        InputError: a model does not exist.
        DeviceError: the device cannot be used.
        EdgeqError: no configuration could be run.
    """
    if on is not None:
        (outcome,) = bench_devices(
            models, [on], runtimes=runtimes, threads=threads, kernels=kernels, seconds=seconds, progress=progress
        )
        if outcome.error:
            raise outcome.error
        assert outcome.result
        return outcome.result
    return _bench(_names(models), runtimes, threads, kernels, seconds, _this_machine, WorkerBackend, progress)


def bench_devices(
    models: str | Path | Sequence[str | Path],
    hosts: Sequence[str],
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    kernels: Sequence[str] = KERNELS,
    seconds: float = 2.0,
    progress: Progress = no_progress,
) -> list[Outcome[Benchmark]]:
    """Measure on several devices at the same time. A device that fails does not stop the others.

    Args:
        models: see :func:`bench`.
        hosts: the devices, ``[user@]host[:port]``; they are set up if needed.
        runtimes: see :func:`bench`; empty for all that a device has.
        threads: see :func:`bench`.
        kernels: see :func:`bench`.
        seconds: see :func:`bench`.
        progress: called with the progress of a single device; for several, with the number that have finished.

    Returns:
        One outcome per device, in the order of `hosts`: its benchmark or its error.

    Raises:
        InputError: a model does not exist, or a device's address is malformed.
    """
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.fleet import on_each  # imported here: only devices need SSH

    names = _names(models)

    def work(device: Device) -> Benchmark:
        start = partial(DeviceBackend, device)
        return _bench(names, runtimes, threads, kernels, seconds, device.machine, start, device.progress)

    return on_each(hosts, work, progress)


def _this_machine() -> Machine:
    """Describe this machine, in a worker process: in this one, tensorflow may make tflite-runtime unusable."""
    with WorkerProcess() as worker:
        return Machine.from_json(worker.ask("machine")[0])


def _names(models: str | Path | Sequence[str | Path]) -> list[str]:
    """Return the paths of one or several files without duplicates; raise an `InputError` if one does not exist."""
    names = [str(models)] if isinstance(models, str | Path) else list(dict.fromkeys(map(str, models)))
    for name in names:
        if not Path(name).is_file():
            raise InputError(f"{name}: no such model file")
    return names


def _bench(
    models: Sequence[str],
    runtimes: Sequence[str],
    threads: Sequence[int],
    kernel_sets: Sequence[str],
    seconds: float,
    machine: Callable[[], Machine],
    start_backend: Callable[[str, str, int, str], Backend],
    progress: Progress,
) -> Benchmark:
    """Measure on one machine, which `machine` describes and on which `start_backend` starts processes."""
    before = machine()
    if "auto" in runtimes:
        runtimes = list(before.runtimes)[:1]  # the fastest comes first
    runs = {
        (c := Configuration(model, runtime, number, kernels)): ConfigurationRun(c, start_backend)
        for runtime in runtimes or before.runtimes
        for kernels in kernel_sets
        for number in threads or [n for n in (1, 2, 4) if n <= before.cores]
        for model in models
    }

    def repeats(run: ConfigurationRun) -> bool:
        """Return whether a configuration is the same as the default one, because that does not use XNNPACK."""
        default = runs.get(run.configuration._replace(kernels="default"), run)
        return run is not default and default.loaded is not None and not default.loaded.delegated

    turns, in_all = count(), len(runs) * (ROUNDS + 1)
    budget_bytes = inf if before.available_bytes is None else SHARE_OF_MEMORY * before.available_bytes
    for group in groups(runs.values(), budget_bytes):
        take_turns(group, seconds, budget_bytes, repeats, lambda: progress("Measuring", next(turns), in_all))
    progress("Measuring", in_all, in_all)
    in_order = sorted(runs.values(), key=lambda run: models.index(run.configuration.model))
    failures = tuple(run.failure for run in in_order if run.failure)
    measurements = tuple(
        run.measurement(before.runtimes[run.configuration.runtime])
        for run in in_order
        if run.loaded and not run.failure and not repeats(run)
    )
    if not measurements:
        raise EdgeqError(failures[0].reason if failures else "no TFLite runtime is installed")
    return Benchmark(before, machine(), measurements, failures, ROUNDS)
