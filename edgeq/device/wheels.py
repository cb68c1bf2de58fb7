"""Fetch the packages that a device needs, as wheels, on the host."""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import DeviceError, InputError, one_line
from edgeq.files import temporary_folder

__all__ = ["EXTRAS", "Platform", "download_wheels", "requirements"]

EXTRAS = {"camera": "av>=14,<18", "web": "tornado>=6.5.7,<7"}
"""The requirements of the extras that a board can have, as in edgeq's pyproject.toml."""

_LITERT = "ai-edge-litert>=2.0,<3"
_TFLITE_RUNTIME = "tflite-runtime>=2.14,<2.15"
_LAST_OF_TFLITE_RUNTIME = (3, 11)  # the last version of Python for which tflite-runtime has wheels
_OLDEST_GLIBC = 17  # minor version of glibc 2.17, which manylinux2014 means


@dataclass(frozen=True)
class Platform:
    """A Linux platform: the properties that determine which wheels fit.

    Attributes:
        architecture: architecture as in the names of wheels: ``aarch64``, ``armv7l``, ``x86_64``.
        python: major and minor version of Python.
        glibc: major and minor version of glibc.
    """

    architecture: str
    python: tuple[int, int]
    glibc: tuple[int, int] = (2, 36)

    def __str__(self) -> str:
        return f"linux_{self.architecture}-cp{self.python[0]}{self.python[1]}"

    @classmethod
    def parse(cls, text: str) -> Platform:
        """Parse the text form of a platform, such as ``linux_aarch64-cp311``.

        Raises:
            InputError: the text does not have this form.
        """
        found = re.fullmatch(r"linux_(\w+)-cp3(\d{1,2})", text)
        if not found:
            raise InputError(f"platform {text!r}: must be like linux_aarch64-cp311")
        return cls(found[1], (3, int(found[2])))

    @property
    def tags(self) -> list[str]:
        """Platform tags of the wheels that run on the platform."""
        many = [f"manylinux_2_{minor}_{self.architecture}" for minor in range(_OLDEST_GLIBC, self.glibc[1] + 1)]
        return [f"linux_{self.architecture}", f"manylinux2014_{self.architecture}", *many]


def requirements(python: tuple[int, int], tflite_runtime: bool = True) -> list[str]:
    """Return the requirements for NumPy, Pillow and a runtime that fit a Python version, in pip's syntax.

    Args:
        python: major and minor version of Python.
        tflite_runtime: whether to choose tflite-runtime where it is available; if False, ai-edge-litert is chosen for
            every version.
    """
    old = python <= _LAST_OF_TFLITE_RUNTIME
    runtime = _TFLITE_RUNTIME if old and tflite_runtime else _LITERT
    return ["numpy>=1.23.5,<2" if old else "numpy>=1.26,<3", "pillow>=10,<14", runtime]


def download_wheels(wanted: list[str], platform: Platform, folder: Path, source: Path | None = None) -> list[Path]:
    """Fetch the wheels of packages and of their dependencies with pip.

    Args:
        wanted: the packages, as requirements without markers.
        platform: the platform that the packages are for.
        folder: folder for the wheels.
        source: folder of wheels to take them from; None for pip's package index.

    Returns:
        The paths of the wheels, sorted.

    Raises:
        DeviceError: wheels are unavailable, or pip is.
    """
    version = f"{platform.python[0]}{platform.python[1]}"
    command = ["-m", "pip", "download", "--quiet", "--disable-pip-version-check", "--no-input"]
    command += ["--only-binary=:all:", "--implementation", "cp", "--python-version", version, "--dest", str(folder)]
    command += [f"--abi={abi}" for abi in (f"cp{version}", "abi3", "none")]
    command += [f"--platform={tag}" for tag in platform.tags]
    command += ["--no-index", f"--find-links={source.resolve()}"] if source else []
    with temporary_folder() as scratch:
        command = [_python_with_pip(scratch), *command, *wanted]
        variables = {**os.environ, "TMPDIR": str(scratch)}  # pip leaves its own folders behind if it is killed
        done = subprocess.run(command, env=variables, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode != 0:
        said = done.stderr.strip().splitlines() or [f"pip's exit code is {done.returncode}"]
        reason = ([line for line in said if line.startswith("ERROR")] or said)[-1].removeprefix("ERROR: ")
        raise DeviceError(
            f"packages for {platform}: not available from {source or 'the package index'} ({one_line(reason)}); "
            "--wheels DIR takes them from a folder"
        )
    return sorted(folder.glob("*.whl"))


def _python_with_pip(scratch: Path) -> str:
    """Return the path of a Python with pip: this one or, if it has no pip, one in a new virtual environment.

    Environments made by uv, for example, have no pip.

    Args:
        scratch: an empty folder for the new environment.

    Raises:
        DeviceError: the new environment cannot be created.
    """
    if importlib.util.find_spec("pip"):
        return sys.executable
    import venv

    try:
        venv.create(scratch, with_pip=True, symlinks=True)  # from the copy of pip in Python: 7 s, and no network
    except (OSError, subprocess.CalledProcessError) as error:
        said = (getattr(error, "output", None) or b"").decode(errors="replace").strip().splitlines() or [str(error)]
        raise DeviceError(
            f"fetching packages needs pip, which {sys.executable} lacks and cannot set up ({one_line(said[-1])}); "
            "install it there: uv pip install pip, or apt install python3-venv"
        ) from None
    return str(scratch / "bin" / "python")
