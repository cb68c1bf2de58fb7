"""A comparison on a real Dask cluster: the same JSON as here, also if workers die, and errors that name the worker."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest
from conftest import ROOT, Finished, colour_picture

from cluster.dask_cluster import DaskCluster
from edgeq.cluster import open_runner
from edgeq.cluster.versions import versions_here
from edgeq.comparison import Comparison, compare
from edgeq.errors import EdgeqError
from edgeq.sweeping.running import run_task

pytest.importorskip("distributed")

Pair = tuple[Path, Path]


@pytest.fixture(scope="module")
def pair(mobilenet_models: Path) -> Pair:
    """A network of random weights, whose integer file flips some images."""
    fp32, int8 = (mobilenet_models / f"mobilenet_v2_0.35_96_{form}.tflite" for form in ("fp32", "int8"))
    return fp32, int8


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """100 pictures in three classes, and a file that is none."""
    folder = tmp_path_factory.mktemp("pictures")
    rows = []
    for number in range(100):
        colour_picture(("blue", "green", "red")[number % 3], number).save(folder / f"{number:03}.jpg")
        rows.append(f"{number:03}.jpg,{number % 3}")
    (folder / "damaged.jpg").write_bytes(b"nothing")
    (folder / "labels.csv").write_text("\n".join([*rows, "damaged.jpg,0"]))
    return folder


def text(document: dict[str, Any]) -> str:
    for side in ("reference", "candidate"):
        del document[side]["latency_ms"]
    return json.dumps(document)


@pytest.fixture(scope="module")
def expected(pair: Pair, pictures: Path) -> str:
    result = compare(*pair, pictures)
    assert (result.images, result.labelled, len(result.skipped)) == (100, 100, 1)
    assert result.flips
    return text(result.to_json())


class KillOne:
    """A progress callback that kills a worker as soon as part of the images is done."""

    def __init__(self, cluster: DaskCluster, number: int, after: int) -> None:
        self.cluster, self.number, self.after = cluster, number, after
        self.killed_at: int | None = None

    def __call__(self, stage: str, done: int, total: int) -> None:
        if self.killed_at is None and done >= self.after:
            assert self.cluster.workers[self.number].poll() is None
            self.cluster.kill_worker(self.number)
            self.killed_at = done


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskCluster]:
    with DaskCluster(tmp_path_factory.mktemp("dask"), workers=2) as cluster:
        yield cluster


class TestTwoWorkers:
    """One cluster for all tests, in this order."""

    def test_same_json_although_a_worker_is_killed(
        self, cluster: DaskCluster, pair: Pair, pictures: Path, expected: str
    ) -> None:
        kill = KillOne(cluster, 0, after=20)
        result = compare(*pair, pictures, scheduler=cluster.address, shard_images=5, progress=kill)
        assert kill.killed_at is not None
        assert kill.killed_at < 80
        assert text(result.to_json()) == expected

    def test_on_the_command_line(
        self, cluster: DaskCluster, pair: Pair, pictures: Path, expected: str, tmp_path: Path, edgeq: Any
    ) -> None:
        arguments = ("compare", *pair, "--data", pictures.name, "--json", "-", "--resume", tmp_path / "run")
        done: Finished = edgeq(*arguments, cwd=pictures.parent, env={"DASK_SCHEDULER_ADDRESS": cluster.address})
        assert (done.code, done.err) == (0, "")
        assert text(json.loads(done.out)) == expected.replace(f"{pictures}/", f"{pictures.name}/")
        assert (tmp_path / "run" / "shard-000000.json").is_file()

    def test_the_models_are_deleted_from_the_workers(self, cluster: DaskCluster) -> None:
        assert list(cluster.folder.rglob("*.tflite")) == []

    def test_no_readable_image(self, cluster: DaskCluster, pair: Pair, tmp_path: Path) -> None:
        (tmp_path / "labels.csv").write_text("a.jpg,0\n")
        (tmp_path / "a.jpg").write_bytes(b"nothing")
        with pytest.raises(EdgeqError, match="none of its 1 images can be read"):
            compare(*pair, tmp_path, scheduler=cluster.address)

    def test_a_run_leaves_no_processes_on_the_workers(self, cluster: DaskCluster, pair: Pair, pictures: Path) -> None:
        def processes() -> list[psutil.Process]:
            alive = [worker.pid for worker in cluster.workers if worker.poll() is None]
            found = [child for pid in alive for child in psutil.Process(pid).children()]
            return [child for child in found if child.status() != psutil.STATUS_ZOMBIE]

        def wait_for(number: int) -> None:
            end = time.monotonic() + 10
            while len(processes()) != number:
                assert time.monotonic() < end
                time.sleep(0.05)

        before = len(processes())
        arguments = {"reference": str(pair[0]), "candidate": str(pair[1]), "data": str(pictures / "labels.csv")}
        task: dict[str, Any] = {"task": "measure", "seconds": None, "tensorflow": False, "folder": str(pictures)}
        task["arguments"] = {**arguments, "runtime": None}
        with open_runner(cluster.address) as runner:
            ((_, answer),) = runner.run(run_task, [(0, task)])
            assert answer["accuracy"]
            assert len(processes()) == before + 1
        wait_for(before)

        def interrupted() -> Iterator[tuple[int, dict[str, Any]]]:
            yield 0, task
            wait_for(before + 1)
            raise KeyboardInterrupt

        with open_runner(cluster.address) as runner, pytest.raises(KeyboardInterrupt):
            list(runner.run(run_task, interrupted()))
        wait_for(before)

    def test_a_worker_with_another_version_is_named(
        self, cluster: DaskCluster, pair: Pair, pictures: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "edgeq").mkdir()
        for entry in (ROOT / "edgeq").iterdir():
            (tmp_path / "edgeq" / entry.name).symlink_to(entry)
        init = tmp_path / "edgeq" / "__init__.py"
        init.unlink()
        source = (ROOT / "edgeq" / "__init__.py").read_text()
        changed, count = re.subn(r'__version__ = "[^"]+"', '__version__ = "0.0.7"', source)
        assert count == 1
        init.write_text(changed)
        logs = []

        def calls() -> Iterator[tuple[int, dict[str, Any]]]:
            yield 0, {"runtime": None}
            logs.append(cluster.add_worker(variables={"PYTHONPATH": str(tmp_path)}))
            yield from ((number, {"runtime": None}) for number in range(1, 1000))

        with open_runner(cluster.address) as runner, pytest.raises(EdgeqError) as joined_late:
            list(runner.run(versions_here, calls()))
        with pytest.raises(EdgeqError) as checked_first:
            compare(*pair, pictures, scheduler=cluster.address)
        (address,) = set(re.findall(r"Start worker at:\s+(tcp://\S+)", logs[0].read_text()))
        for caught in (joined_late, checked_first):
            message = str(caught.value)
            assert re.match(rf"worker {address} has edgeq 0\.0\.7 instead of \d", message)
            assert message.endswith("; install the same versions on every worker")


def test_nothing_listens_there(pair: Pair, pictures: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.cluster.dask_runner._CONNECT_S", 0.5)
    with pytest.raises(EdgeqError, match=r"^tcp://127\.0\.0\.1:9: no Dask scheduler answers"):
        compare(*pair, pictures, scheduler="tcp://127.0.0.1:9")


@pytest.mark.parametrize("address", ["host:port", "tcp://", "http://127.0.0.1:9"])
def test_not_an_address(address: str, pair: Pair, pictures: Path) -> None:
    with pytest.raises(EdgeqError, match=f"^{address}: not the address of a Dask scheduler"):
        compare(*pair, pictures, scheduler=address)


def test_a_cluster_without_workers(pair: Pair, pictures: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.cluster.dask_runner._WORKERS_S", 0.5)
    with (
        DaskCluster(tmp_path, workers=0) as cluster,
        pytest.raises(EdgeqError, match="has no workers; start some with: dask worker tcp://"),
    ):
        compare(*pair, pictures, scheduler=cluster.address)


@pytest.mark.accept
@pytest.mark.parametrize("workers", [1, 2, 4])
def test_any_number_of_workers(workers: int, pair: Pair, pictures: Path, expected: str, tmp_path: Path) -> None:
    with DaskCluster(tmp_path, workers) as cluster:
        for shard_images in (3, 40):
            result = compare(*pair, pictures, scheduler=cluster.address, shard_images=shard_images)
            assert text(result.to_json()) == expected
        if workers > 1:
            for victim in range(workers - 1):  # one after another, until one is left
                kill = KillOne(cluster, victim, after=20)
                result = compare(*pair, pictures, scheduler=cluster.address, shard_images=4, progress=kill)
                assert kill.killed_at is not None
                assert text(result.to_json()) == expected
        else:
            progress = KillAndReplace(cluster)
            result = compare(*pair, pictures, scheduler=cluster.address, shard_images=4, progress=progress)
            assert progress.killed_at is not None
            assert text(result.to_json()) == expected


class KillAndReplace(KillOne):
    """Kills the only worker, and starts another one, which gets the models when it joins."""

    def __init__(self, cluster: DaskCluster) -> None:
        super().__init__(cluster, 0, after=20)

    def __call__(self, stage: str, done: int, total: int) -> None:
        before = self.killed_at
        super().__call__(stage, done, total)
        if before is None and self.killed_at is not None:
            self.cluster.add_worker(wait=False)


@pytest.mark.accept
def test_a_comparison_whose_scheduler_dies_is_resumed_here(
    pair: Pair, pictures: Path, expected: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("edgeq.cluster.dask_runner._WORKERS_S", 2)
    with DaskCluster(tmp_path / "dask", 1) as cluster, contextlib.suppress(OSError):

        def progress(stage: str, done: int, total: int) -> None:
            if done >= 40 and cluster.scheduler.poll() is None:
                cluster.scheduler.kill()
                cluster.scheduler.wait()

        with pytest.raises(EdgeqError, match="the connection to the scheduler was lost"):
            compare(
                *pair,
                pictures,
                scheduler=cluster.address,
                shard_images=4,
                resume=tmp_path / "run",
                progress=progress,
            )
    kept = len(list((tmp_path / "run").glob("shard-*")))
    assert 10 <= kept < 26
    result: Comparison = compare(*pair, pictures, shard_images=4, resume=tmp_path / "run")
    assert text(result.to_json()) == expected
