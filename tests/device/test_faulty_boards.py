"""Boards with faults, behind a real sshd. They run this machine's Python, because only the agent runs there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from edgeq.device.device import Device
from edgeq.device.setup import send_code
from edgeq.errors import DeviceError

from .conftest import Board, start_board, stop_board

PROXY = """
import os, socket, sys, threading, time
port, delay_s, count, log = int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), sys.argv[4]
with open(log, "a") as file:
    file.write(".")
left = count if os.path.getsize(log) <= 3 else 1 << 40  # the first three connections break
connection = socket.create_connection(("127.0.0.1", port))
def back():
    while data := connection.recv(1 << 16):
        os.write(1, data)
    os._exit(0)
threading.Thread(target=back, daemon=True).start()
while data := os.read(0, 1 << 14):
    time.sleep(delay_s)
    connection.sendall(data)
    left -= len(data)
    if left < 0:
        os._exit(1)
"""


@pytest.fixture(scope="module")
def python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with bin/python3, a Python that every user may run."""
    folder = tmp_path_factory.mktemp("python")
    found = next((path for path in ("/usr/bin/python3", sys.executable) if Path(path).exists()), None)
    done = subprocess.run([str(found), "-c", "import sys; sys.exit(sys.version_info < (3, 10))"], check=False)
    if done.returncode:
        pytest.skip("no Python 3.10 for all users")
    (folder / "bin").mkdir()
    (folder / "bin" / "python3").symlink_to(str(found))
    for path in (folder, *folder.parents[:3]):
        with contextlib.suppress(PermissionError):
            path.chmod(path.stat().st_mode | 0o055)
    return folder


@pytest.fixture(scope="module")
def board(python: Path) -> Iterator[Board]:
    found = start_board(python)
    yield found
    stop_board(found)


@pytest.fixture(autouse=True)
def short_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.device.device._WAITS_S", (0.2, 0.5, 1.0, 3.0))


@pytest.fixture
def there(board: Board, monkeypatch: pytest.MonkeyPatch) -> Board:
    """The board, bare, for the library in this process."""
    shutil.rmtree(board.home, ignore_errors=True)
    monkeypatch.setenv("EDGEQ_SSH", board.ssh())
    return board


@pytest.fixture
def large(tmp_path: Path) -> Path:
    path = tmp_path / "large.bin"
    path.write_bytes(np.random.default_rng(1).bytes(1_500_000))
    return path


def names(board: Board) -> set[str]:
    return {path.name for path in board.home.iterdir()}


def is_complete(board: Board, code: str) -> bool:
    installed = json.loads((board.home / "installed.json").read_text())
    return bool(installed["code"] == code) and (board.home / "code" / "edgeq" / "device" / "agent.py").is_file()


def installed_code(host: str) -> str:
    with Device(host) as device:
        send_code(device, (device.probe()["installed"] or {}).get("code"))
        return str(device.probe()["installed"]["code"])


def through_proxy(board: Board, folder: Path, delay_s: float, count: int) -> str:
    (folder / "proxy.py").write_text(PROXY)
    arguments = f"{sys.executable} {folder / 'proxy.py'} {board.port} {delay_s} {count} {folder / 'connections'}"
    (folder / "ssh_config").write_text(
        f"Host *\n  ProxyCommand {arguments}\n{(board.folder / 'ssh_config').read_text()}"
    )
    return f"ssh -F {folder / 'ssh_config'}"


@pytest.mark.parametrize(("delay_s", "count"), [(0.01, 1 << 30), (0.0, 400_000)], ids=["slow", "drops connections"])
def test_a_bad_line(
    delay_s: float, count: int, there: Board, large: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("EDGEQ_SSH", through_proxy(there, tmp_path, delay_s, count))
    with Device(there.host) as device:
        sha256 = device.send(large)
    assert (there.home / "files" / sha256).read_bytes() == large.read_bytes()
    assert [path.name for path in (there.home / "files").iterdir()] == [sha256]
    assert len((tmp_path / "connections").read_text()) == (1 if delay_s else 4)


def test_a_reboot_in_the_middle(there: Board, large: Path) -> None:
    offsets: list[int] = []

    def progress(stage: str, done: int, total: int) -> None:
        offsets.append(done)
        if len(offsets) == 3:
            threading.Thread(target=reboot).start()
            time.sleep(0.3)

    def reboot() -> None:
        with there.off():
            time.sleep(1)

    with Device(there.host, progress) as device:
        sha256 = device.send(large)
    assert (there.home / "files" / sha256).read_bytes() == large.read_bytes()
    assert offsets == sorted(set(offsets))


def test_an_older_edgeq_is_replaced(there: Board) -> None:
    code = installed_code(there.host)
    (there.home / "code" / "edgeq" / "older.py").touch()
    (there.home / "installed.json").write_text(json.dumps({"code": "older"}))
    assert installed_code(there.host) == code
    assert is_complete(there, code)
    assert not (there.home / "code" / "edgeq" / "older.py").exists()


@pytest.mark.sampled(1)
@pytest.mark.parametrize("record", ['{"code": "', "[]", ""])
def test_a_damaged_record_is_written_anew(record: str, there: Board) -> None:
    """As a power cut may leave it."""
    code = installed_code(there.host)
    (there.home / "installed.json").write_text(record)
    assert installed_code(there.host) == code
    assert is_complete(there, code)


def test_two_addresses_of_one_board_at_the_same_time(there: Board, large: Path) -> None:
    """Both are the first contact, and both send the same."""
    found: list[str] = []

    def work(host: str) -> None:
        found.append(installed_code(host))
        with Device(host) as device:
            found.append(device.send(large))

    for _ in range(3):
        shutil.rmtree(there.home, ignore_errors=True)
        found.clear()
        threads = [threading.Thread(target=work, args=(host,)) for host in (there.host, "kitchen", there.host)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == 6
        assert len(set(found)) == 2
        code, sha256 = sorted(set(found), key=found.index)
        assert is_complete(there, code)
        assert (there.home / "files" / sha256).read_bytes() == large.read_bytes()
        assert names(there) == {"code", "files", "installed.json", "lock"}
        assert [path.name for path in (there.home / "files").iterdir()] == [sha256]


@pytest.mark.parametrize("year", [1970, 2000, 2040])
def test_parts_of_another_time_are_removed(year: int, there: Board, large: Path) -> None:
    """Whatever the clock says or said: a board without a battery starts in the past."""
    files = there.home / "files"
    with Device(there.host) as device:
        device.send(large)
        old = files / f"{'0' * 64}.part"
        old.write_bytes(b"part")
        seconds = (year - 1970) * 31_557_600
        os.utime(old, (seconds, seconds))
        (recent := files / f"{'1' * 64}.part").write_bytes(b"part")
        for path in (files, old, recent):
            os.chown(path, files.stat().st_uid, -1)
        other = large.with_name("other.bin")
        other.write_bytes(b"other")
        device.send(other)
    assert not old.exists()
    assert recent.exists()


@pytest.mark.parametrize(
    ("disk", "reason"),
    [("size=16m,nr_inodes=40", "its disk is full, or has no more room"), ("size=16m,ro", "Read-only file system")],
    ids=["no inodes", "read-only"],
)
def test_a_disk_that_takes_no_more(disk: str, reason: str, python: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if os.getuid() != 0:
        pytest.skip("a small disk takes root to mount")
    found = start_board(python, disk)
    try:
        monkeypatch.setenv("EDGEQ_SSH", found.ssh())
        for _ in range(2):
            with pytest.raises(DeviceError, match=reason) as caught:
                installed_code(found.host)
            assert "\n" not in str(caught.value)
        with Device(found.host) as device:
            assert device.probe()["installed"] is None
    finally:
        stop_board(found)
