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
from edgeq.execution.backend import Backend, WorkerBackend
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

    Each configuration has its own process, so its memory and its crashes are its own. The configurations take turns: a
    machine's speed drifts with its temperature and its load, and turns spread the drift evenly, so ratios hold even if
    times do not. As many processes are alive at the same time as fit into a quarter of the available memory, and always
    two; the models in one configuration always take turns. A configuration without XNNPACK is omitted if the default
    does not use XNNPACK either.

    Args:
        models: one .tflite file or several; any will do, the inputs are noise.
        runtimes: names in ``edgeq.runtime.RUNTIMES``; empty takes all that are installed.
        threads: of the interpreter; empty takes 1, 2 and 4, up to the number of cores.
        seconds: how long each configuration runs, in total, after the warm-up.
        on: a device, ``[user@]host[:port]``; None measures on this machine. See :func:`bench_devices`.
        progress: called with ("Measuring", turns done, turns in all).

    Raises:
        InputError: a model does not exist.
        DeviceError: the device cannot be used.
        EdgeqError: no configuration could be run.
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
    """Measure on several devices at the same time; one that fails does not stop the others.

    Args:
        models: see :func:`bench`.
        hosts: the devices, ``[user@]host[:port]``; they are set up if needed.
        runtimes: see :func:`bench`; empty takes all that a device has.
        threads: see :func:`bench`.
        seconds: see :func:`bench`.
        progress: of a single device its own; of several, how many are done.

    Returns:
        One outcome per device, in the order of `hosts`: its benchmark or its error.

    Raises:
        InputError: a model does not exist, or a host is malformed.
    """
    from edgeq.device.backend import DeviceBackend
    from edgeq.device.fleet import on_each  # SSH, which this machine does not need

    names = _names(models)

    def work(device: Device) -> Benchmark:
        start = partial(DeviceBackend, device)
        return _bench(names, runtimes, threads, seconds, device.machine, start, device.progress)

    return on_each(hosts, work, progress)


def _this_machine() -> Machine:
    """This machine as a worker process sees it; in this process, tensorflow may prevent tflite-runtime."""
    with WorkerProcess() as worker:
        return Machine.from_json(worker.ask("machine")[0])


def _names(models: str | Path | Sequence[str | Path]) -> list[str]:
    """The names of one file or several, without duplicates; checks that they exist."""
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
    start_backend: Callable[[str, str, int, str], Backend],
    progress: Progress,
) -> Benchmark:
    """Measure on the machine that `machine` describes and on which `start_backend` starts processes."""
    before = machine()
    runs = {
        (c := Configuration(model, runtime, number, kernels)): ConfigurationRun(c, start_backend)
        for runtime in runtimes or before.runtimes
        for kernels in _KERNELS
        for number in threads or [n for n in (1, 2, 4) if n <= before.cores]
        for model in models
    }

    def repeats(run: ConfigurationRun) -> bool:
        """Whether it would repeat the default configuration, because that does not use XNNPACK."""
        default = runs[run.configuration._replace(kernels="default")]
        return run is not default and default.loaded is not None and not default.loaded.delegated

    turns, in_all = count(), len(runs) * (ROUNDS + 1)
    budget_bytes = inf if before.available_bytes is None else _SHARE_OF_MEMORY * before.available_bytes
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
