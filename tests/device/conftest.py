"""An emulated Raspberry Pi behind a real sshd."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from conftest import COLOURS, Finished, colour_picture, kept_pi, making, run_command

PACKAGES = ("openssh-server", "openssh-sftp-server", "libwrap0")
SMALL_DISK = "size=16m"


@dataclass(frozen=True)
class Board:
    """A device that answers on a port of this machine.

    Attributes:
        host: what --on takes.
        folder: with its home, its keys and ssh's configuration.
        port: that its sshd listens on.
        process: sshd.
        command: what started it.
    """

    host: str
    folder: Path
    port: int
    process: subprocess.Popen[bytes]
    command: tuple[str, ...]

    @property
    def home(self) -> Path:
        """Where edgeq keeps its things there."""
        return self.folder / "home" / ".local" / "share" / "edgeq"

    def ssh(self, *options: str) -> str:
        """What EDGEQ_SSH has to be."""
        return " ".join(["ssh", "-F", str(self.folder / "ssh_config"), *options])

    def cut(self) -> None:
        """Break all connections, as a pulled cable would."""
        for pid in sessions(self.process.pid):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

    @contextlib.contextmanager
    def off(self) -> Iterator[None]:
        """Kill everything that runs there, and start it again at the end, as a reboot does."""
        self.cut()
        self.process.kill()
        self.process.wait(timeout=10)
        yield
        object.__setattr__(self, "process", listening(self.command, self.folder))


def sessions(pid: int) -> list[int]:
    """Children of a process and theirs."""
    found = []
    for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split():
        with contextlib.suppress(FileNotFoundError):
            found += [int(child), *sessions(int(child))]
    return found


def unpacked_sshd() -> Path:
    """An sshd that is not installed, but unpacked from its packages."""
    with making("sshd") as folder:
        if not (folder / "done").exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            for package in PACKAGES:
                command = ["apt-get", "-qq", "-o", "APT::Sandbox::User=", "download", package]
                done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
                if done.returncode != 0:
                    pytest.skip(f"no sshd available ({done.stderr.strip()[-200:]})")
                (archive,) = folder.glob(f"{package}_*.deb")
                subprocess.run(["dpkg-deb", "-x", archive, folder], check=True)
            (folder / "done").touch()
    return folder


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def write_configurations(
    work: Path, sshd: Path, pi: Path, port: int, user: str, disk: str, variables: str = ""
) -> None:
    """Keys, and both ends' configuration."""
    for name in ("host_key", "key", "other_key"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", work / name], check=True)
    (work / "home").mkdir()
    shutil.copyfile(work / "key.pub", work / "home" / "authorized_keys")
    public = (work / "host_key.pub").read_text().split()[:2]
    (work / "known_hosts").write_text(f"[127.0.0.1]:{port} {' '.join(public)}\n")
    environment = f"PATH={pi / 'bin'}:/usr/bin:/bin" + (f" XDG_DATA_HOME={work / 'small'}" if disk else "")
    environment += f" {variables.format(home=work / 'home')}" if variables else ""
    (work / "sshd_config").write_text(
        f"Port {port}\nListenAddress 127.0.0.1\nHostKey {work / 'host_key'}\nPidFile none\nStrictModes no\nUsePAM no\n"
        f"AuthorizedKeysFile {work / 'home' / 'authorized_keys'}\nPasswordAuthentication no\n"
        f"KbdInteractiveAuthentication no\nSetEnv {environment}\nMaxStartups 100\n"
    )
    (work / "ssh_config").write_text(
        f"Host kitchen\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
        f"Host *\n  IdentityFile {work / 'key'}\n  IdentitiesOnly yes\n  UserKnownHostsFile {work / 'known_hosts'}\n"
        "  GlobalKnownHostsFile /dev/null\n"
    )


def start_board(pi: Path, disk: str = "", variables: str = "") -> Board:
    """Start an sshd whose python3 is the Pi's; with a `disk` of its own for what edgeq keeps, which takes root.

    In `variables`, which its processes get (``NAME=VALUE NAME=VALUE``), ``{home}`` stands for its home.
    """
    for tool in ("ssh", "ssh-keygen", "apt-get", "dpkg-deb", *(("unshare", "setpriv") if os.getuid() == 0 else ())):
        if shutil.which(tool) is None:
            pytest.skip(f"no {tool}, which a board behind a real sshd takes")
    sshd = unpacked_sshd()
    work = Path(tempfile.mkdtemp(prefix="edgeq-board-"))
    work.chmod(0o755)
    port, root = free_port(), os.getuid() == 0
    user = "pi" if root else Path.home().owner()
    write_configurations(work, sshd, pi, port, user, disk, variables)
    (library,) = sshd.glob("usr/lib/*/libwrap.so.0")
    command = f"{sshd}/usr/sbin/sshd -D -e -f {work}/sshd_config"  # sshd starts itself again, by its absolute path
    if root:  # a throw-away user that exists only in a mount namespace of its own
        (work / "passwd").write_text(Path("/etc/passwd").read_text() + f"pi:*:1001:1001:pi:{work}/home:/bin/bash\n")
        for path in (work / "home", work / "host_key"):
            os.chown(path, 1001, 1001)
        (work / "small").mkdir()
        mounts = f"mount --bind {work}/passwd /etc/passwd"
        if disk:
            mounts += f" && mount -t tmpfs -o {disk},uid=1001 tmpfs {work}/small"
        drop = "setpriv --reuid=1001 --regid=1001 --clear-groups --no-new-privs"
        arguments = ["unshare", "-m", "--propagation", "private", "sh", "-c", f"{mounts} && exec {drop} {command}"]
    else:
        arguments = command.split()
    arguments = ["env", f"LD_LIBRARY_PATH={library.parent}", *arguments]
    process = listening(tuple(arguments), work)
    return Board(f"{user}@127.0.0.1:{port}", work, port, process, tuple(arguments))


def listening(command: Sequence[str], work: Path) -> subprocess.Popen[bytes]:
    """Start sshd and wait until it listens."""
    with (work / "sshd.log").open("wb") as log:
        process = subprocess.Popen(command, stderr=log, stdin=subprocess.DEVNULL)
    deadline = time.monotonic() + 15
    while "Server listening" not in (said := (work / "sshd.log").read_text()):
        if process.poll() is not None or time.monotonic() > deadline:
            process.kill()
            pytest.skip(f"no sshd can be run here ({said.strip()[-200:]})")
        time.sleep(0.05)
    return process


def stop_board(board: Board) -> None:
    board.cut()
    board.process.terminate()
    board.process.wait(timeout=10)
    shutil.rmtree(board.folder, ignore_errors=True)


def run(board: Board, *arguments: object, ssh: str = "", timeout: float = 300) -> Finished:
    """Run the command line with this board's ssh configuration."""
    return run_command(*arguments, env={"EDGEQ_SSH": ssh or board.ssh()}, timeout=timeout)


@pytest.fixture(scope="session")
def board(pi: Path) -> Iterator[Board]:
    """The emulated Pi, bare at first."""
    found = start_board(pi)
    yield found
    stop_board(found)


@pytest.fixture(scope="session")
def small_board(pi: Path) -> Iterator[Board]:
    """One with 16 MB of disk."""
    if os.getuid() != 0:
        pytest.skip("a small disk takes root to mount")
    found = start_board(pi, SMALL_DISK)
    yield found
    stop_board(found)


@pytest.fixture(scope="session")
def newer_pi() -> Path:
    """An emulated Raspberry Pi with Python 3.13."""
    return kept_pi("trixie")


@pytest.fixture(scope="session")
def newer_board(newer_pi: Path) -> Iterator[Board]:
    """A board with Python 3.13, bare at first."""
    found = start_board(newer_pi)
    yield found
    stop_board(found)


def kept_wheels(python: tuple[int, int]) -> Path:
    """The packages for a Pi with that Python, which are fetched once."""
    from edgeq.device.wheels import EXTRAS, Platform, download_wheels, requirements
    from edgeq.errors import DeviceError

    with making(f"wheels-with-extras-{python[0]}{python[1]}") as folder:
        try:
            if not (folder / "done").exists():
                folder.mkdir(exist_ok=True)
                wanted = [*requirements(python), "click>=8.1,<9", *EXTRAS.values()]
                download_wheels(wanted, Platform("aarch64", python), folder)
                (folder / "done").touch()
        except DeviceError as error:
            pytest.skip(f"no packages available for the Pi: {error}")
    return folder


@pytest.fixture(scope="session")
def wheels(pi: Path) -> Path:
    """The packages for Python 3.11."""
    return kept_wheels((3, 11))


@pytest.fixture(scope="session")
def newer_wheels(newer_pi: Path) -> Path:
    """The packages for Python 3.13."""
    return kept_wheels((3, 13))


@pytest.fixture(scope="session")
def photos_20(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("photos_20")
    for number in range(20):
        colour_picture(list(COLOURS)[number % 3], 500 + number, 60).save(folder / f"{number:02}.jpg")
    return folder
