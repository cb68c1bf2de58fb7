"""Setting a device up: everything comes from the desk, so that the device needs no network of its own."""

from __future__ import annotations

import contextlib
import hashlib
import io
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.device.address import Address
from edgeq.device.device import Device
from edgeq.device.wheels import Platform, download_wheels, requirements
from edgeq.errors import DeviceError
from edgeq.files import member_info
from edgeq.progress import Progress, no_progress

__all__ = ["SetUp", "connected", "remove", "send_code", "set_up"]

_ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
_OLDEST_GLIBC = (2, 28)
_SPARE_BYTES = 50_000_000  # for models and photos
_CLICK = "click>=8.1,<9"


@dataclass(frozen=True)
class SetUp:
    """What was done to a device.

    Attributes:
        home: the folder on it that holds everything.
        installed: file names of the packages that were installed; empty where nothing had to be done.
    """

    home: str
    installed: tuple[str, ...]


@contextlib.contextmanager
def connected(address: Address, progress: Progress = no_progress) -> Iterator[Device]:
    """Connect a device and set it up where that is needed; the connection ends with the context.

    Args:
        address: of the device.
        progress: called while files travel.

    Raises:
        DeviceError: it cannot be reached, or is not fit for it.
    """
    with Device(address, progress) as device:
        set_up(device)
        yield device


def set_up(device: Device, wheels: Path | None = None) -> SetUp:
    """Make sure that a device has the packages and the edgeq to run models.

    They lie in a folder of the login's home (``~/.local/share/edgeq``) and change nothing else. What is there
    already stays.

    Args:
        device: that is connected.
        wheels: folder of wheels to take the packages from; None asks pip's package index, from the desk.

    Raises:
        DeviceError: it is not fit for it, or the packages cannot be had.
    """
    found = device.probe()
    platform = _platform(device, found)
    installed = found["installed"] or {}
    wanted = [*requirements(platform.python), _CLICK]
    names: tuple[str, ...] = ()
    if (installed.get("packages") or {}).get("wanted") != wanted:
        with tempfile.TemporaryDirectory(prefix="edgeq-wheels-") as folder:
            try:
                files = download_wheels(wanted, platform, Path(folder), wheels)
            except DeviceError as error:
                raise DeviceError(f"{device.address}: {error}") from None
            _check_space(device, found, files)
            names = tuple(file.name for file in files)
            archives = [device.send(file) for file in files]
        device.ask("install", folder="packages", archives=archives, record={"wanted": wanted, "files": names})
    send_code(device, installed.get("code"))
    return SetUp(found["home"], names)


def send_code(device: Device, there: str | None = None) -> None:
    """Have this edgeq's sources on a device; without packages it can tell what the device is, and no more.

    Args:
        device: that is connected.
        there: digest of the sources that it has.

    Raises:
        DeviceError: they do not arrive.
    """
    code = _code()
    digest = hashlib.sha256(code).hexdigest()
    if digest != there:
        with tempfile.TemporaryDirectory(prefix="edgeq-code-") as folder:
            archive = Path(folder) / "edgeq.zip"
            archive.write_bytes(code)
            device.ask("install", folder="code", archives=[device.send(archive)], record=digest)


def remove(device: Device) -> int:
    """Delete everything that was ever put on a device; returns how many bytes that were."""
    return int(device.ask("remove")[0]["bytes"])


def _platform(device: Device, found: dict[str, Any]) -> Platform:
    """What packages must fit.

    Raises:
        DeviceError: no runtime exists for the like of it.
    """
    architecture, python = found["architecture"], tuple(found["python"])
    library, version = found["libc"]
    if architecture == "aarch64" and found["bits"] == 32:
        architecture = "armv7l"  # a 32-bit system on a 64-bit kernel
    if architecture not in _ARCHITECTURES:
        raise DeviceError(f"{device.address}: is a {architecture}, for which there is no TFLite runtime")
    if library != "glibc":
        raise DeviceError(f"{device.address}: has no glibc, which the runtimes are built for")
    glibc = tuple(int(part) for part in version.split(".")[:2])
    if glibc < _OLDEST_GLIBC:
        raise DeviceError(f"{device.address}: has glibc {version}, older than the 2.28 that the packages need")
    if architecture == "armv7l" and python >= (3, 12):
        raise DeviceError(
            f"{device.address}: is 32-bit with Python {python[0]}.{python[1]}, for which there is no TFLite runtime; "
            "use the 64-bit system"
        )
    return Platform(architecture, (python[0], python[1]), (glibc[0], glibc[1]))


def _check_space(device: Device, found: dict[str, Any], wheels: list[Path]) -> None:
    """That the wheels fit, packed and unpacked."""
    needed = _SPARE_BYTES + sum(wheel.stat().st_size for wheel in wheels)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            needed += sum(info.file_size for info in archive.infolist())
    if found["free_bytes"] < needed:
        free = found["free_bytes"] / 1e6
        raise DeviceError(f"{device.address}: needs {needed / 1e6:.0f} MB for the packages, and has {free:.0f} MB free")


def _code() -> bytes:
    """This edgeq's sources as a zip; the same sources give the same bytes."""
    package = Path(__file__).parents[1]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package)
            if path.is_file() and name.parts[0] != "shipped" and "__pycache__" not in name.parts:
                info = member_info(f"edgeq/{name.as_posix()}")
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()
