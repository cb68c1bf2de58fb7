"""Watching on a board: the agent and its processes run on this machine, behind a stand-in for ssh."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Any
from urllib.request import Request, urlopen

import pytest
from conftest import ROOT, colour_picture

import edgeq
from edgeq.device.wheels import requirements
from edgeq.errors import DeviceError, InputError
from edgeq.execution.frames import read_frame, write_frame
from edgeq.watching.board import BoardWatch
from edgeq.watching.observed import COUNTS

HOST = "pi@kitchen"
CLIENT = """#!/bin/sh
[ -e {folder}/off ] && {{ echo no route to it >&2; exit 255; }}
for last; do :; done
cd {folder}/home
export XDG_DATA_HOME={folder}
echo $$ >> {folder}/agents
PATH={folder}/bin:{python}:/usr/bin:/bin exec sh -c "$last"
"""
# What rpicam-vid does: the same frame, 20 times per second, until it is killed.
CAMERA = """#!/bin/sh
while cat {folder}/red.jpg; do sleep 0.05; done
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The board: a home where all packages are in place, a camera, and an ssh that connects to it."""
    folder = tmp_path_factory.mktemp("board")
    for name in ("edgeq/packages", "home", "bin"):
        (folder / name).mkdir(parents=True)
    wanted = [*requirements(sys.version_info[:2]), "click>=8.1,<9"]
    (folder / "edgeq" / "installed.json").write_text(json.dumps({"packages": {"wanted": wanted, "files": []}}))
    colour_picture("red", 1).save(folder / "red.jpg", quality=95)
    for path, text in ((folder / "ssh", CLIENT), (folder / "bin" / "rpicam-vid", CAMERA)):
        path.write_text(text.format(folder=folder, python=Path(sys.executable).parent))
        path.chmod(0o755)
    return folder


@pytest.fixture
def board(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The board. At the end nothing runs there any more."""
    monkeypatch.setenv("EDGEQ_SSH", str(folder / "ssh"))
    yield folder
    until(lambda: running(folder) == [])


@pytest.fixture
def model(colour_models: Path) -> Path:
    return colour_models / "colours_int8.tflite"


def until(true: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not true():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def processes(board: Path) -> list[Path]:
    """The processes that belong to the board, in /proc."""
    found = []
    for process in Path("/proc").iterdir():
        with suppress(OSError):
            if process.name.isdigit() and f"XDG_DATA_HOME={board}\0".encode() in (process / "environ").read_bytes():
                found.append(process)
    return found


def command_line(process: Path) -> str:
    with suppress(OSError):
        return (process / "cmdline").read_text().replace("\0", " ")
    return ""


def running(board: Path) -> list[str]:
    return [command_line(process) for process in processes(board)]


def cut(board: Path) -> None:
    """Break the connections, as a pulled cable would: what ssh started ends."""
    for pid in (board / "agents").read_text().split():
        with suppress(ProcessLookupError):
            os.kill(int(pid), signal.SIGKILL)


@contextmanager
def command(*arguments: object) -> Iterator[subprocess.Popen[str]]:
    process = subprocess.Popen(
        [sys.executable, "-m", "edgeq", "watch", *map(str, arguments), "--on", HOST],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        process.kill()
        process.communicate()


def drop(folder: Path, *colours: str) -> None:
    """Drop photos, each by renaming, as a program that cares does."""
    for number, colour in enumerate(colours):
        name = f"{time.time_ns()}-{number}-{colour}.jpg"
        colour_picture(colour, number, 48).save(folder / f".{name}", "JPEG")
        (folder / f".{name}").rename(folder / name)


def test_ctrl_c_here_ends_it_there(board: Path, model: Path) -> None:
    with command("picamera", "-m", model, "--json") as process:
        assert process.stdout
        lines = [json.loads(process.stdout.readline()) for _ in range(6)]
        assert any("edgeq.watching.worker" in line for line in running(board))
        assert any("rpicam-vid" in line for line in running(board))
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does
        out, err = process.communicate(timeout=20)
    assert process.returncode == 130
    assert "Interrupted" in err
    assert [line["event"] for line in lines] == ["label", *["frame"] * 5]
    assert {line["label"] for line in lines} == {"red"}
    frames = [line["frame"] for line in lines]
    assert frames == sorted(set(frames))
    summary = json.loads(out.splitlines()[-1])
    assert summary["event"] == "summary"
    assert summary["frames"] >= 5


def test_a_broken_connection_is_an_interruption(board: Path, model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.watching.source._FIRST_WAIT_S", 0.1)
    with closing(edgeq.watch("picamera", model, on=HOST)) as seen:
        before = next(seen)
        assert isinstance(before, edgeq.Observed)
        assert before.image == b""
        (board / "off").touch()
        cut(board)
        lost: list[edgeq.Interruption] = []
        for item in seen:
            if isinstance(item, edgeq.Observed):
                before = item
                if lost:
                    break
                continue
            lost.append(item)
            if len(lost) == 3:
                assert before.interruptions == 0
                last = before.frame
                (board / "off").unlink()
        assert [item.wait_s for item in lost] == [0.1, 0.2, 0.4]
        assert all(item.reason.startswith(f"{HOST}: ") for item in lost)
        assert "no route to it" in lost[-1].reason
        assert before.interruptions == 3
        assert before.frame > last  # the numbers go on


def keeper_of(folder: Path, model: Path) -> edgeq.Keeper:
    """A keeper, as soon as the process that ended before has released the folder."""
    found: list[edgeq.Keeper] = []

    def opened() -> bool:
        with suppress(InputError):
            found.append(edgeq.Keeper(folder, model))
        return bool(found)

    until(opened)
    return found[0]


def test_a_folder_that_is_in_use_just_after_the_connection_broke(
    board: Path, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The board may not have noticed yet that the earlier connection is gone."""
    monkeypatch.setattr("edgeq.watching.source._FIRST_WAIT_S", 0.1)
    keep = {"folder": "in-use", "changed": True, "free_bytes": 0}
    with BoardWatch(HOST, "picamera", model, keep=keep) as watched, closing(watched.seen()) as seen:
        first = next(seen)
        assert watched.keeper
        photo = watched.keeper.offer(first)
        assert photo
        assert (board / "home" / photo).exists()
        cut(board)
        until(lambda: running(board) == [])
        with keeper_of(board / "home" / "in-use", model):
            until(lambda: "another process" in getattr(next(seen), "reason", ""))
        until(lambda: isinstance(next(seen), edgeq.Observed))
    with keeper_of(board / "home" / "in-use", model), pytest.raises(DeviceError, match="another process"):
        BoardWatch(HOST, "picamera", model, keep=keep)


def test_photos_are_kept_there_and_the_page_is_here(board: Path, model: Path) -> None:
    incoming = board / "home" / "incoming"
    incoming.mkdir()
    rules = ["--keep", "kept", "--keep-changed", "--keep-free", "0"]
    with command("incoming", "-m", model, "--json", "--frames", 3, "--web", 0, *rules) as process:
        assert process.stderr
        assert process.stdout
        said = ""
        while "Page: " not in said:
            said = process.stderr.readline()
        url = said.split()[-1]
        time.sleep(0.5)  # a folder's first look
        drop(incoming, "red")
        first = json.loads(process.stdout.readline())
        assert (first["label"], Path(first["file"]).parent.name) == ("red", "incoming")
        picture = wait_for_picture(url)
        assert picture == Path(board / "home" / first["file"]).read_bytes()
        state = json.loads(urlopen(f"{url}api/state", timeout=10).read())
        assert state["source"] == f"incoming on {HOST}"
        origin = {"Origin": url.rstrip("/"), "Content-Type": "application/json"}
        labelled = json.dumps({"frame": first["frame"], "label": "green"}).encode()
        answer = json.loads(urlopen(Request(f"{url}api/label", labelled, origin), timeout=10).read())
        drop(incoming, "blue", "blue")
        out, err = process.communicate(timeout=20)
    assert process.returncode == 0, err
    *others, summary = [json.loads(line) for line in out.splitlines()]
    assert summary["frames"] == 3
    kept = board / "home" / first["kept"]
    record = json.loads(kept.with_suffix(".json").read_text())
    assert record["label"] == "green"  # the same photo, not a second one
    assert answer["file"] == first["kept"]
    assert record["model"]["name"] == model.name
    assert kept.read_bytes() == picture
    assert [Path(item["kept"]).exists() for item in others if "kept" in item] in ([], [False])  # not here


def wait_for_picture(url: str) -> bytes:
    found = b""

    def picture() -> bool:
        nonlocal found
        try:
            found = urlopen(f"{url}api/frame.jpg", timeout=10).read()
        except OSError:
            return False
        return bool(found)

    until(picture)
    return found


def test_options_and_ends_reach_the_board(board: Path, model: Path, photos: Path, tmp_path: Path) -> None:
    """Labels, the threshold, the top and the photos come from here; the number of frames ends the watch there."""
    (tmp_path / "names.txt").write_text("bleu\nvert\nrouge\n")
    compared = edgeq.compare(model, model, photos, overrides=edgeq.Overrides(labels=("bleu", "vert", "rouge")))
    (tmp_path / "drift.json").write_text(json.dumps(compared.to_json()))
    options = ["--labels", tmp_path / "names.txt", "--top", 1, "--expect", tmp_path / "drift.json"]
    done = run("picamera", "-m", model, *options, "--frames", 2, "--json")
    *items, summary = [json.loads(line) for line in done.stdout.splitlines()]
    assert [item["label"] for item in items] == ["rouge"] * 2
    assert {len(item["predictions"]) for item in items} == {1}
    shares = {each["label"]: (each["share"], each["expected_share"]) for each in summary["expected"]["labels"]}
    assert shares == {"rouge": (1.0, 0.333333), "bleu": (0.0, 0.333333), "vert": (0.0, 0.333333)}


def run(*arguments: object) -> subprocess.CompletedProcess[str]:
    with command(*arguments) as process:
        out, err = process.communicate(timeout=30)
        return subprocess.CompletedProcess([], process.returncode, out, err)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-"], "--on: a board has no standard input; give another source"),
        (["nothing"], f"Error: {HOST}: nothing: no such source"),
        (["nothing", "--expect", "drift.json"], "Error: drift.json: cannot be read (No such file or directory)"),
        ([".", "--keep", "."], "is the watched folder"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, board: Path, model: Path) -> None:
    done = run(*arguments, "-m", model)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_a_board_that_is_off_at_the_start_is_an_error(board: Path, model: Path) -> None:
    (board / "off").touch()
    try:
        with pytest.raises(DeviceError, match="cannot be reached"):
            next(edgeq.watch("picamera", model, on=HOST))
    finally:
        (board / "off").unlink()


def test_sources_of_this_process(model: Path) -> None:
    with pytest.raises(InputError, match="name a source of the board"):
        next(edgeq.watch("-", model, on=HOST))


def test_a_process_that_ended_meanwhile_is_started_again(board: Path, model: Path) -> None:
    """As after this machine has slept: the board did not wait for it."""
    with closing(edgeq.watch("picamera", model, on=HOST)) as seen:
        first = next(seen)
        assert isinstance(first, edgeq.Observed)
        (worker,) = (process for process in processes(board) if "edgeq.watching.worker" in command_line(process))
        os.kill(int(worker.name), signal.SIGKILL)
        until(lambda: not worker.exists() or (worker / "stat").read_text().rpartition(")")[2].split()[0] == "Z")
        time.sleep(0.5)  # its other threads end after its first one
        frames = [item.frame for item in islice(seen, 30) if isinstance(item, edgeq.Observed)]
    assert len(frames) == 30
    assert frames == sorted(set(frames))
    assert frames[0] > first.frame


def test_a_host_that_is_gone_without_a_word(model: Path, tmp_path: Path) -> None:
    code = "from edgeq.watching import worker; worker._FORGOTTEN_AFTER_S = 0.5; worker.main()"
    request: dict[str, Any] = {
        "do": "watch",
        "source": str(tmp_path),
        "name": "m.tflite",
        "model": {"path": str(model), "runtime": None, "threads": 1, "kernels": "default", "trust": False},
        "overrides": {"normalization": None, "channels": None, "crop": None, "labels": None},
        "size": [480, 640],
        "rate": 30.0,
        "smoothing": {},
        "picture_interval_s": None,
        "keep": None,
        "before": dict.fromkeys(COUNTS, 0),
    }
    with subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdin
        assert process.stdout
        for _ in range(3):  # a quiet source: it goes on as long as it is asked
            write_frame(process.stdin, request)
            answer, _ = read_frame(process.stdout)
            assert (answer["items"], answer["end"], answer["classes"]) == ([], False, 3)
        assert process.wait(timeout=10) == 1
