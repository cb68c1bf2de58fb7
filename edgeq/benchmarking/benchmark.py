"""The benchmark as a job: every configuration of some models, on this machine or on devices."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from itertools import count
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.benchmarking.result import Benchmark
from edgeq.benchmarking.turns import ROUNDS, Configuration, ConfigurationRun, groups, take_turns
from edgeq.errors import EdgeqError, InputError
from edgeq.execution.backend import RemoteBackend, WorkerBackend
from edgeq.execution.machine import Machine
from edgeq.execution.process import WorkerProcess
from edgeq.progress import Progress, no_progress

if TYPE_CHECKING:
    from edgeq.device.device import Device
    from edgeq.device.fleet import Outcome

__all__ = ["bench", "bench_devices"]

_KERNELS = ("default", "built-in")  # with XNNPACK where it applies, and without
_SHARE_OF_MEMORY = 0.25  # of what is available, for the processes that live at the same time


def bench(
    models: str | Path | Sequence[str | Path],
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    seconds: float = 2.0,
    on: str | None = None,
    progress: Progress = no_progress,
) -> Benchmark:
    """Measure how fast models run, under every runtime, with XNNPACK and without, on one thread and several.

    Each configuration has a process of its own, so its memory and its crashes are its own. They take turns: a machine's
    speed drifts with its temperature and its other work, and in turns all get the same share of that, so ratios hold
    where times do not. As many processes live at the same time as fit into a quarter of the available memory, but two
    in any case; the models in one configuration are always in turns. A configuration without XNNPACK is left out where
    the default does not use it either.

    Args:
        models: one .tflite file or several; any will do, the inputs are noise.
        runtimes: names in ``edgeq.runtime.RUNTIMES``; empty takes all that are installed.
        threads: of the interpreter; empty takes those of 1, 2 and 4 for which there are cores.
        seconds: that each configuration runs for, in all, after the first inference.
        on: a device, ``[user@]host[:port]``; None measures on this machine. See :func:`bench_devices`.
        progress: called with ("Measuring", turns done, turns in all).

    Raises:
        InputError: a model is not there.
        DeviceError: the device cannot be used.
        EdgeqError: not one configuration could be run.
    """
    if on is not None:
        (outcome,) = bench_devices(models, [on], runtimes=runtimes, threads=threads, seconds=seconds, progress=progress)
        if outcome.error:
            raise outcome.error
        assert outcome.result
        return outcome.result
    return _bench(_names(models), runtimes, threads, seconds, _this_machine, WorkerBackend, progress)


def bench_devices(
    models: str | Path | Sequence[str | Path],
    hosts: Sequence[str],
    *,
    runtimes: Sequence[str] = (),
    threads: Sequence[int] = (),
    seconds: float = 2.0,
    progress: Progress = no_progress,
) -> list[Outcome[Benchmark]]:
    """Measure on devices side by side; a device that fails does not stop the others.

    Args:
        models: see :func:`bench`.
        hosts: the devices, ``[user@]host[:port]``; they are set up where that is needed.
        runtimes: see :func:`bench`; empty takes all that a device has.
        threads: see :func:`bench`.
        seconds: see :func:`bench`.
        progress: of a single device its own; of several, how many are done.

    Returns:
        What each device measured, or why it could not, in the order of `hosts`.

    Raises:
        InputError: a model is not there, or a host is not of the form that it should be.
    """
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.fleet import on_each  # measuring here needs no SSH

    names = _names(models)

    def work(device: Device) -> Benchmark:
        start = partial(DeviceBackend, device)
        return _bench(names, runtimes, threads, seconds, device.machine, start, device.progress)

    return on_each(hosts, work, progress)


def _this_machine() -> Machine:
    """This machine as a worker process sees it: in this one, tensorflow may be in the way of tflite-runtime."""
    with WorkerProcess() as worker:
        return Machine.from_json(worker.ask("machine")[0])


def _names(models: str | Path | Sequence[str | Path]) -> list[str]:
    """The names of one file or several, each once; they exist."""
    names = [str(models)] if isinstance(models, str | Path) else list(dict.fromkeys(map(str, models)))
    for name in names:
        if not Path(name).is_file():
            raise InputError(f"{name}: no such model file")
    return names


def _bench(
    models: Sequence[str],
    runtimes: Sequence[str],
    threads: Sequence[int],
    seconds: float,
    machine: Callable[[], Machine],
    start_backend: Callable[[str, str, int, str], RemoteBackend],
    progress: Progress,
) -> Benchmark:
    """Measure on one machine, which `machine` describes and on which `start_backend` starts processes."""
    before = machine()
    runs = {
        (c := Configuration(model, runtime, number, kernels)): ConfigurationRun(c, start_backend)
        for runtime in runtimes or before.runtimes
        for kernels in _KERNELS
        for number in threads or [n for n in (1, 2, 4) if n <= before.cores]
        for model in models
    }

    def repeats(run: ConfigurationRun) -> bool:
        """Whether it would repeat the default kernels, because those make no use of XNNPACK."""
        default = runs[run.configuration._replace(kernels="default")]
        return run is not default and default.loaded is not None and not default.loaded.delegated

    turns = count()
    budget_bytes = inf if before.available_bytes is None else _SHARE_OF_MEMORY * before.available_bytes
    for group in groups(runs.values(), budget_bytes):
        take_turns(
            group,
            seconds,
            budget_bytes,
            repeats,
            lambda: progress("Measuring", next(turns), len(runs) * (ROUNDS + 1)),
        )
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
