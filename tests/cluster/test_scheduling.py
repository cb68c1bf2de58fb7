"""The time that scheduling costs: many tasks that only sleep, against a simulation in which it costs nothing."""

from __future__ import annotations

import heapq
import time
from collections.abc import Iterator
from typing import Any

import pytest

from edgeq.cluster import open_runner

distributed = pytest.importorskip("distributed")

TASKS, WORKERS, SLEEP_S, SLOWDOWN = 1280, 20, 2.0, 2  # a shard of 1,000 images takes several seconds
STRAGGLERS = 2
DEATH_AFTER = 320  # tasks


def sleep(number: int) -> dict[str, Any]:
    """A task that takes twice as long on two of the workers."""
    name = int(distributed.get_worker().name)
    time.sleep(SLEEP_S * (SLOWDOWN if name < STRAGGLERS else 1))
    return {"number": number, "worker": name}


def simulated_s(death_s: float) -> float:
    """The time if every worker starts its next task at once; the last one dies, and its task starts again."""
    free = [(0.0, worker) for worker in range(WORKERS)]
    left, end = TASKS, 0.0
    while left:
        start, worker = heapq.heappop(free)
        done = start + SLEEP_S * (SLOWDOWN if worker < STRAGGLERS else 1)
        if worker == WORKERS - 1 and done > death_s:
            continue  # nothing of this task remains
        left, end = left - 1, max(end, done)
        heapq.heappush(free, (done, worker))
    return end


@pytest.mark.accept
def test_scheduling_costs_less_than_a_twentieth_of_the_time() -> None:
    with (
        distributed.LocalCluster(
            n_workers=WORKERS,
            threads_per_worker=1,
            processes=False,
            dashboard_address=None,
            memory_limit=0,  # all workers are in this process, which other tests have filled
        ) as cluster,
        open_runner(cluster.scheduler_address) as runner,
    ):
        found: list[int] = []

        def calls() -> Iterator[tuple[int, dict[str, int]]]:
            yield from ((number, {"number": number}) for number in range(TASKS))

        start = time.monotonic()
        death_s = float("inf")
        for number, result in runner.run(sleep, calls()):
            assert result["number"] == number
            found.append(number)
            if len(found) == DEATH_AFTER:
                cluster.sync(cluster.workers[WORKERS - 1].close, timeout=0, executor_wait=False, nanny=False)
                death_s = time.monotonic() - start
        took = time.monotonic() - start
    assert sorted(found) == list(range(TASKS))
    expected = simulated_s(death_s)
    print(f"\n{took:.2f} s instead of {expected:.2f} s: {took / expected - 1:.1%}")
    assert took < 1.05 * expected
