"""Services and collecting over a real sshd. There is no systemd on it: a stand-in records what it is asked."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import COLOURS, ROOT, colour_picture

from device.conftest import Board, run, start_board, stop_board
from edgeq.comparison import compare
from edgeq.device.service import unit_name, unit_text
from edgeq.device.wheels import requirements
from edgeq.errors import InputError

SYSTEMCTL = """#!/bin/sh
# Stands in for systemctl, loginctl and journalctl: records how it was called, and answers like a running service.
echo "${0##*/} $*" >> "$HOME_OF_BOARD/calls"
case "$*" in
  *restart*failing*) echo "Job for edgeq-failing.service failed." >&2; echo more >&2; exit 1;;
  *show-user*) cat "$HOME_OF_BOARD/linger" 2> /dev/null;;
  enable-linger) echo "Could not enable linger: Access denied" >&2; exit 1;;
  *show*) printf 'ActiveState=active\\nSubState=running\\nNRestarts=2\\nMemoryCurrent=81000000\\n'
          printf 'ActiveEnterTimestamp=Sun 2026-11-22 03:31:00 UTC\\n';;
esac
case "${0##*/} $*" in journalctl*) echo "2026-11-22T03:31:00 12:00:00 100.0% red";; esac
exit 0
"""


@pytest.fixture(scope="module")
def board() -> Iterator[Board]:
    """This machine's Python behind an sshd, where all packages are in place, and a stand-in for systemd."""
    python = shutil.which("python3", path="/usr/bin:/bin")  # others may not look into the home of a virtual environment
    if python is None:
        pytest.skip("no python3 in /usr/bin")
    tools = Path(tempfile.mkdtemp(prefix="edgeq-tools-"))
    tools.chmod(0o755)
    (tools / "bin").mkdir()
    (tools / "bin" / "python3").symlink_to(python)
    for name in ("systemctl", "loginctl", "journalctl"):
        (tools / "bin" / name).write_text(SYSTEMCTL)
        (tools / "bin" / name).chmod(0o755)
    data = "XDG_DATA_HOME={home}/.local/share XDG_CONFIG_HOME={home}/.config HOME_OF_BOARD={home}"
    found = start_board(tools, variables=data)
    version = subprocess.check_output([python, "-c", "import sys; print(sys.version_info[1])"], text=True)
    (found.home / "packages").mkdir(parents=True)
    record = {"packages": {"wanted": [*requirements((3, int(version))), "click>=8.1,<9"], "files": []}}
    (found.home / "installed.json").write_text(json.dumps(record))
    give_to_user(found)
    yield found
    stop_board(found)
    shutil.rmtree(tools)


def give_to_user(board: Board) -> None:
    if os.getuid() == 0:
        subprocess.run(["chown", "-R", "1001:1001", board.folder / "home"], check=True)


def home(board: Board) -> Path:
    return board.folder / "home"


def calls(board: Board) -> list[str]:
    found = (home(board) / "calls").read_text().splitlines()
    (home(board) / "calls").unlink()
    return found


def words_of(unit: str) -> list[str]:
    """The command in a unit, as systemd reads it."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit, re.MULTILINE)
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)]


@pytest.fixture(scope="module")
def incoming(board: Board) -> Path:
    folder = home(board) / "incoming"
    folder.mkdir()
    give_to_user(board)
    return folder


def test_from_installation_to_removal(
    board: Board, incoming: Path, colour_models: Path, photos: Path, tmp_path: Path
) -> None:
    model = colour_models / "colours_int8.tflite"
    (tmp_path / "drift.json").write_text(json.dumps(compare(model, model, photos).to_json()))
    watch = [str(incoming), "--model", model, "--keep", "kept", "--keep-below", "1", "--keep-free", "0", "--json"]
    watch += ["--expect", tmp_path / "drift.json"]
    done = run(board, "device", "service", "install", board.host, "--", *watch)
    assert (done.code, done.err) == (0, "")
    unit = home(board) / ".config" / "systemd" / "user" / "edgeq-watch.service"
    user = board.host.partition("@")[0]
    assert f"Installed {unit} and started it." in done.out
    assert f"sudo loginctl enable-linger {user}" in done.out
    assert [call for call in calls(board) if call.startswith("systemctl")] == [
        "systemctl --user daemon-reload",
        "systemctl --user enable edgeq-watch",
        "systemctl --user restart edgeq-watch",
    ]
    words = words_of(unit.read_text())
    sent = Path(words[words.index("--model") + 1])
    assert sent.is_relative_to(board.home)
    assert sent.read_bytes() == model.read_bytes()
    assert Path(words[words.index("--expect") + 1]).read_bytes() == (tmp_path / "drift.json").read_bytes()
    if shutil.which("systemd-analyze"):
        verify(unit.read_text(), tmp_path)
    kept = run_as_service(words, home(board), incoming)
    give_to_user(board)
    # What it kept comes here over the same connection.
    source = f"{board.host}:kept"
    done = run(board, "collect", source, tmp_path / "photos", "--json")
    assert (done.code, done.err) == (0, "")
    assert json.loads(done.out)["fetched"] == len(kept) > 0
    for path in kept:
        assert (tmp_path / "photos" / "unlabelled" / path.name).read_bytes() == path.read_bytes()
    assert json.loads(run(board, "collect", source, tmp_path / "photos", "--json", "--remove").out)["removed"] == len(
        kept
    )
    assert not any(path.exists() for path in kept)
    done = run(board, "device", "service", "status", board.host)
    assert done.out == ("watch: active (running) since Sun 2026-11-22 03:31:00 UTC\nrestarts: 2, memory: 81 MB\n"), (
        done.err
    )
    done = run(board, "device", "service", "logs", board.host, "--lines", 7)
    assert done.out == "2026-11-22T03:31:00 12:00:00 100.0% red\n"
    assert any("--user-unit=edgeq-watch.service --lines=7" in call for call in calls(board))
    assert run(board, "device", "service", "stop", board.host).out == "Stopped watch.\n"
    assert run(board, "device", "service", "remove", board.host).out == "Removed watch.\n"
    assert calls(board) == [
        "systemctl --user stop edgeq-watch",
        "systemctl --user disable --now edgeq-watch",
        "systemctl --user daemon-reload",
    ]
    assert not unit.exists()
    assert not sent.exists()
    done = run(board, "device", "service", "status", board.host)
    assert (done.code, done.err) == (
        2,
        f"Error: {board.host}: has no service watch; edgeq device service install creates one\n",
    )


def run_as_service(words: list[str], directory: Path, incoming: Path) -> list[Path]:
    """Run a service's command as systemd would, drop photos for it, and stop it; return the photos it kept."""
    with tempfile.TemporaryDirectory() as folder, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
        messages.bind(f"{folder}/notify")
        messages.settimeout(30)
        variables = {"PYTHONPATH": str(ROOT), "NOTIFY_SOCKET": f"{folder}/notify", "PATH": os.environ["PATH"]}
        # With this Python: that of the stand-in board has no packages.
        process = subprocess.Popen(
            [sys.executable, *words[1:]], cwd=directory, env=variables, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        try:
            assert messages.recv(100) == b"READY=1"
            time.sleep(0.5)  # a folder's first look
            for number, colour in enumerate(COLOURS):
                colour_picture(colour, number).save(incoming / f"{colour}.jpg")
            assert [messages.recv(100) for _ in COLOURS] == [b"WATCHDOG=1"] * len(COLOURS)
            process.terminate()
            out, err = process.communicate(timeout=20)
        finally:
            process.kill()
    assert (process.returncode, err) == (143, b"")
    *results, summary = [json.loads(line) for line in out.splitlines()]
    assert summary["event"] == "summary"
    assert summary["expected"]["images"] == 36
    assert [Path(result["file"]).stem for result in results] == list(COLOURS)
    return [directory / result["kept"] for result in results if "kept" in result]


def verify(unit: str, folder: Path) -> None:
    """Let systemd check a unit of a user."""
    (folder / "edgeq-watch.service").write_text(unit)
    command = ["systemd-analyze", "verify", "--user", "--man=no", str(folder / "edgeq-watch.service")]
    variables = {**os.environ, "XDG_RUNTIME_DIR": str(folder)}
    done = subprocess.run(command, capture_output=True, text=True, env=variables, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_service_that_does_not_start(board: Board, colour_models: Path) -> None:
    watch = ["picamera", "--model", colour_models / "colours_int8.tflite"]
    done = run(board, "device", "service", "install", board.host, "--name", "failing", "--", *watch)
    assert (done.code, done.out) == (2, "")
    assert done.err == (
        f"Error: {board.host}: systemctl --user restart failed (Job for edgeq-failing.service failed.); "
        "edgeq device service logs shows what it printed\n"
    )
    unit = home(board) / ".config" / "systemd" / "user" / "edgeq-failing.service"
    assert "WatchdogSec=120" in unit.read_text()
    assert run(board, "device", "service", "remove", board.host, "--name", "failing").code == 0


def test_device_remove_takes_services_along(board: Board, colour_models: Path) -> None:
    (home(board) / "linger").write_text("yes\n")
    installed = (board.home / "installed.json").read_bytes()
    watch = ["picamera", "--model", colour_models / "colours_int8.tflite"]
    done = run(board, "device", "service", "install", board.host, "--", *watch)
    assert (done.code, "enable-linger" in done.out) == (0, False)
    calls(board)
    assert run(board, "device", "remove", board.host).code == 0
    assert "systemctl --user disable --now edgeq-watch" in calls(board)
    assert not list((home(board) / ".config" / "systemd" / "user").iterdir())
    (board.home / "packages").mkdir(parents=True)
    (board.home / "installed.json").write_bytes(installed)
    give_to_user(board)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["picamera"], "Missing option '--model'"),
        (["picamera", "--model", "m.tflite", "--keep-every", "soon"], "'soon' is not a time"),
        (["picamera", "--model", "m.tflite", "--nonsense"], "No such option"),
        (["-", "--model", "m.tflite"], "a service has no standard input"),
        (["picamera", "--model", "m.tflite", "--on", "pi@other"], "--on: the service watches on HOST; omit it"),
    ],
)
def test_wrong_arguments_never_reach_the_board(arguments: list[str], said: str) -> None:
    command = [sys.executable, "-m", "edgeq", "device", "service", "install", "nowhere.invalid", "--", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert said in done.stderr


def test_collecting_needs_a_folder_there(board: Board, tmp_path: Path) -> None:
    done = run(board, "collect", f"{board.host}:nothing", tmp_path / "photos")
    assert (done.code, done.err) == (2, f"Error: {board.host}: nothing: no such folder\n")


class TestUnit:
    HOSTILE = ("http://cam/$HOME?a=%n&b=\"x\" 'y'", "back\\slash", "%%h", "${PATH}", "a;b", "-x", "")

    def test_arguments_stay_what_they_are(self, tmp_path: Path) -> None:
        python = shutil.which("true")
        assert python
        unit = unit_text([python, "watch", *self.HOSTILE], ["/a b/code"], "/", 1, None)
        assert words_of(unit)[2:] == list(self.HOSTILE)
        assert "WatchdogSec" not in unit
        if shutil.which("systemd-analyze") is None:
            pytest.skip("no systemd-analyze to check the unit")
        verify(unit, tmp_path)

    @pytest.mark.parametrize("word", ["a\nExecStartPre=/bin/rm", "a\rb", "\x7f"])
    def test_control_characters(self, word: str) -> None:
        with pytest.raises(InputError, match="control character"):
            unit_text(["/bin/true", "watch", word], [], "/", 1, None)

    @pytest.mark.parametrize("name", ["", "a b", "../x", "a.service", "x" * 51])
    def test_names(self, name: str) -> None:
        with pytest.raises(InputError, match="letters, digits"):
            unit_name(name)
