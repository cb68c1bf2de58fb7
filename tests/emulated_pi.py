#!/usr/bin/env python3
"""Make an emulated 64-bit Raspberry Pi: Debian's arm64 Python, run by qemu's user mode emulation.

FOLDER/bin/python3 is then that Pi's Python. It needs no root, chroot or registered binary format, only apt-get,
dpkg-deb and the key of Debian's archive. Timings under emulation say nothing about a real board.

    python tests/emulated_pi.py FOLDER
    python tests/emulated_pi.py FOLDER --release trixie
"""

from __future__ import annotations

import argparse
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

MIRROR = "http://deb.debian.org/debian"
SYSTEM_SOURCE = Path("/etc/apt/sources.list.d/debian.sources")
KEY = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
CORES = 4
CPU = "cortex-a72"
CPUINFO = """\
processor\t: {core}
BogoMIPS\t: 108.00
Features\t: fp asimd evtstrm crc32 cpuid
CPU implementer\t: 0x41
CPU architecture: 8
CPU variant\t: 0x0
CPU part\t: 0xd08
CPU revision\t: 3

"""
MODEL = "Model\t\t: Raspberry Pi 4 Model B Rev 1.5 (emulated)\n"


class CannotMakeError(Exception):
    """A tool or a package is missing here."""


@dataclass(frozen=True)
class Release:
    """A release of Debian, which Raspberry Pi OS follows.

    Attributes:
        suite: name of the release.
        python: version of its Python.
        ssl: name of its OpenSSL package.
        uname: where coreutils has the program.
        wheels: packages to install, as pip's requirements.
    """

    suite: str
    python: str
    ssl: str
    uname: str
    wheels: tuple[str, ...]

    @property
    def packages(self) -> list[str]:
        """The arm64 packages that its Python takes."""
        python = f"python{self.python}"
        libraries = ["libc6", "libgcc-s1", "libstdc++6", "zlib1g", self.ssl, "libexpat1", "libffi8", "liblzma5"]
        libraries += ["libbz2-1.0", "libcrypt1", "libuuid1", "libsqlite3-0", "python3-pip-whl", "coreutils"]
        if self.suite == "bookworm":
            libraries.append("python3-setuptools-whl")
        return [*libraries, f"lib{python}-minimal", f"lib{python}-stdlib", f"{python}-minimal", f"{python}-venv"]


RELEASES = {
    release.suite: release
    for release in (
        Release("bookworm", "3.11", "libssl3", "bin/uname", ("tflite-runtime==2.14.0", "numpy<2", "pillow", "click")),
        Release("trixie", "3.13", "libssl3t64", "usr/bin/uname", ("click",)),  # edgeq device setup brings the others
    )
}


def make_pi(folder: Path, release: Release) -> None:
    """Make the emulated Pi in an empty or new folder.

    Raises:
        CannotMakeError: a tool is missing, or packages cannot be downloaded.
    """
    for tool in ("apt-get", "dpkg-deb", "dpkg"):
        if shutil.which(tool) is None:
            raise CannotMakeError(f"no {tool} on this machine")
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    root = folder / "root"
    with tempfile.TemporaryDirectory(prefix="emulated-pi-") as name:
        work = Path(name)
        download_packages(work, release)
        unpack_packages(work, folder, root, release)
        install_wheels(work, root, release)
    describe_processor(root)
    write_programs(folder, root, release)
    compile_modules(folder, root, release)


def run(command: list[str], folder: Path | None = None, environment: dict[str, str] | None = None) -> str:
    """Run a command; what it printed."""
    env = {**os.environ, **(environment or {})}
    done = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, timeout=170, check=False)
    if done.returncode != 0:
        raise CannotMakeError(f"{shlex.join(command[:3])} failed: {done.stderr.strip()[-200:]}")
    return done.stdout


def download_packages(work: Path, release: Release) -> None:
    """Download qemu and the arm64 packages, with lists and settings of apt's in `work` instead of the system's."""
    host = run(["dpkg", "--print-architecture"]).strip()
    for path in ("etc/preferences.d", "etc/apt.conf.d", "state/lists/partial", "cache/archives/partial", "debs"):
        (work / path).mkdir(parents=True)
    (work / "status").touch()
    mirror, key = MIRROR, KEY
    if SYSTEM_SOURCE.is_file():  # a mirror nearby
        fields = dict(
            line.split(": ", 1) for line in SYSTEM_SOURCE.read_text().split("\n\n")[0].splitlines() if ": " in line
        )
        mirror, key = fields.get("URIs", mirror), Path(fields.get("Signed-By", key))
    if not key.is_file():
        raise CannotMakeError(f"no {key}; install the package debian-archive-keyring")
    suites = dict.fromkeys((release.suite, "bookworm"))  # the newer release's qemu is not linked statically
    lines = [f"deb [arch=arm64,{host} signed-by={key}] {mirror} {suite} main" for suite in suites]
    (work / "etc" / "sources.list").write_text("\n".join(lines) + "\n")
    (work / "apt.conf").write_text(
        f'Dir::State "{work}/state"; Dir::State::status "{work}/status"; Dir::Cache "{work}/cache"; '
        f'Dir::Etc "{work}/etc"; Acquire::Languages "none"; Acquire::Retries "3"; APT::Sandbox::User ""; '
        f'APT::Architecture "arm64"; APT::Architectures {{ "arm64"; "{host}"; }}; '
        f'APT::Default-Release "{release.suite}";\n'
    )
    apt = {"APT_CONFIG": str(work / "apt.conf")}
    run(["apt-get", "-qq", "update"], environment=apt)
    run(["apt-get", "-qq", "download", *release.packages], work / "debs", apt)
    run(["apt-get", "-qq", "download", f"qemu-user-static:{host}/bookworm"], work, apt)


def unpack_packages(work: Path, folder: Path, root: Path, release: Release) -> None:
    """Unpack qemu beside the root folder of the Pi, and the packages into it."""
    root.mkdir()
    for path in (work / "debs").glob("*.deb"):
        run(["dpkg-deb", "-x", str(path), str(work / "coreutils" if path.name.startswith("coreutils") else root)])
    if not (root / "lib").exists():  # where a link of Debian's installer merges it into usr/
        (root / "lib").symlink_to("usr/lib")
    (qemu,) = work.glob("qemu-user-static_*.deb")
    program = "./usr/bin/qemu-aarch64-static"  # alone, as the emulators have 300 MB together
    source, target = shlex.quote(str(qemu)), shlex.quote(str(work))
    run(["sh", "-c", f"dpkg-deb --fsys-tarfile {source} | tar -x -C {target} {program}"])
    (folder / "bin").mkdir()
    shutil.copy2(work / program, folder / "qemu-aarch64")
    shutil.copy2(work / "coreutils" / release.uname, folder / "uname.arm64")


def install_wheels(work: Path, root: Path, release: Release) -> None:
    """Unpack the aarch64 wheels where the Pi's Python finds them."""
    number = release.python.replace(".", "")
    abis = [f"--abi={abi}" for abi in (f"cp{number}", "abi3", "none")]
    platforms = [f"--platform=manylinux_2_{minor}_aarch64" for minor in (17, 27, 28, 34)]
    target = [
        "--dest",
        str(work / "wheels"),
        "--only-binary=:all:",
        f"--python-version={number}",
        "--implementation=cp",
    ]
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--disable-pip-version-check"]
    run([*pip, *target, *abis, *platforms, "--platform=manylinux2014_aarch64", *release.wheels])
    site = root / "usr" / "lib" / "python3" / "dist-packages"
    site.mkdir(parents=True, exist_ok=True)
    for wheel in (work / "wheels").glob("*.whl"):
        shutil.unpack_archive(wheel, site, "zip")


def describe_processor(root: Path) -> None:
    """Write what the Pi sees in /proc/cpuinfo and /sys, where qemu looks first.

    With the host's files, a runtime would choose instructions that the emulated processor does not have.
    """
    (root / "proc").mkdir()
    (root / "proc" / "cpuinfo").write_text("".join(CPUINFO.format(core=core) for core in range(CORES)) + MODEL)
    cpus = root / "sys" / "devices" / "system" / "cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text(f"0-{CORES - 1}\n")


def write_programs(folder: Path, root: Path, release: Release) -> None:
    """Write bin/python3 and bin/uname, which start the emulator.

    python3 lies in the root folder and bin/ has a link to it, so that sys.executable, sys.prefix and child processes
    of the Pi's Python work.
    """
    qemu = shlex.quote(str(folder / "qemu-aarch64"))
    where = shlex.quote(str(root))
    python = root / "usr" / "bin" / "python3"
    program = f"{where}/usr/bin/python{release.python}"
    scripts = {
        python: f'exec {qemu} -cpu {CPU} -L {where} -0 "$0" {program} "$@"',
        folder / "bin" / "uname": f'exec {qemu} -L {where} {shlex.quote(str(folder / "uname.arm64"))} "$@"',
    }
    for path, command in scripts.items():
        path.unlink(missing_ok=True)
        path.write_text(f"#!/bin/sh\n{command}\n")
        path.chmod(0o755)
    (folder / "bin" / "python3").symlink_to(python)
    found = run(
        [str(folder / "bin" / "python3"), "-c", "import platform; print(platform.machine(), platform.python_version())"]
    )
    if not found.startswith(f"aarch64 {release.python}."):
        raise CannotMakeError(f"the emulated Python is {found.strip()}, not aarch64 {release.python}")


def compile_modules(folder: Path, root: Path, release: Release) -> None:
    """Compile the Python modules, as the installation of Debian's packages does.

    Who logs in there may not write into these folders, so each start of Python would compile all that it imports.
    """
    ours = sys.version_info[:2] == tuple(map(int, release.python.split(".")))
    python = sys.executable if ours else str(folder / "bin" / "python3")  # the same bytecode in any case
    libraries = [str(root / "usr" / "lib" / name) for name in (f"python{release.python}", "python3")]
    run([python, "-m", "compileall", "-q", *libraries])


def main() -> None:
    """Make a Pi as the command line says."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--release", choices=RELEASES, default="bookworm")
    arguments = parser.parse_args()
    try:
        make_pi(arguments.folder, RELEASES[arguments.release])
    except CannotMakeError as error:
        sys.exit(f"{arguments.folder}: {error}")
    print(arguments.folder / "bin" / "python3")


if __name__ == "__main__":
    main()
