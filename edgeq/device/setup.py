"""Set up a device. The host sends everything, so the device needs no internet access."""

from __future__ import annotations

import contextlib
import hashlib
import io
import zipfile
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.device.device import Device
from edgeq.device.wheels import EXTRAS, Platform, download_wheels, requirements
from edgeq.errors import DeviceError
from edgeq.files import member_info, temporary_folder
from edgeq.progress import Progress, no_progress

__all__ = ["SetUp", "connected", "remove", "send_code", "set_up"]

_ARCHITECTURES = ("aarch64", "armv7l", "x86_64")
_OLDEST_GLIBC = (2, 28)
_SPARE_BYTES = 50_000_000  # disk space to leave for models and photos
_CLICK = "click>=8.1,<9"


@dataclass(frozen=True)
class SetUp:
    """The result of setting up a device.

    Attributes:
        home: the folder on the device that contains everything.
        installed: file names of the packages that were installed; empty if the device had them already.
    """

    home: str
    installed: tuple[str, ...]


@contextlib.contextmanager
def connected(host: str, progress: Progress = no_progress) -> Iterator[Device]:
    """Connect to a device and set it up if needed; leaving the context closes the connection.

    Args:
        host: the device's address, see :meth:`edgeq.device.address.Address.parse`.
        progress: called while files are sent.

    Raises:
        InputError: the address is malformed.
        DeviceError: the device cannot be reached, or cannot run models.
    """
    with Device(host, progress) as device:
        set_up(device)
        yield device


def set_up(device: Device, wheels: Path | None = None, extras: Collection[str] = ()) -> SetUp:
    """Install what a device needs to run models, unless it has it already: packages, and this version of edgeq.

    Everything is in one folder of the user's home on the device, ``~/.local/share/edgeq``. Nothing else is changed.

    Args:
        device: a connected device.
        wheels: folder of wheels to take the packages from; None to download them on the host from pip's package index.
        extras: names in `EXTRAS`, whose packages the device needs as well. Those that it has, it keeps.

    Raises:
        DeviceError: there is no runtime for the device, or the packages are unavailable.
    """
    found = device.probe()
    platform = _platform(device, found)
    installed = found["installed"] or {}
    packages = installed.get("packages") or {}
    kept = [name for name in EXTRAS if name in extras or name in packages.get("extras", ())]
    wanted = [*requirements(platform.python), _CLICK, *(EXTRAS[name] for name in kept)]
    names: tuple[str, ...] = ()
    if packages.get("wanted") != wanted:
        with temporary_folder() as folder:
            try:
                files = download_wheels(wanted, platform, folder, wheels)
            except DeviceError as error:
                raise DeviceError(f"{device.address}: {error}") from None
            _check_space(device, found, files)
            names = tuple(file.name for file in files)
            archives = [device.send(file) for file in files]
        record = {"wanted": wanted, "files": names, "extras": kept}
        device.ask("install", folder="packages", archives=archives, record=record)
    send_code(device, installed.get("code"))
    return SetUp(found["home"], names)


def send_code(device: Device, installed: str | None = None) -> None:
    """Install this version of edgeq on a device. Without packages, it can describe the device, but not run models.

    Args:
        device: a connected device.
        installed: digest of the version of edgeq that the device has, or None.

    Raises:
        DeviceError: the files cannot be sent.
    """
    code = _code()
    digest = hashlib.sha256(code).hexdigest()
    if digest != installed:
        device.send_content(code, digest, "edgeq.zip")
        device.ask("install", folder="code", archives=[digest], record=digest)


def remove(device: Device) -> int:
    """Delete everything that edgeq installed on a device or sent to it; return the number of bytes freed."""
    return int(device.ask("remove")[0]["bytes"])


def _platform(device: Device, found: dict[str, Any]) -> Platform:
    """Return the device's platform, which determines the packages.

    Raises:
        DeviceError: there is no runtime for the platform.
    """
    architecture, python = found["architecture"], tuple(found["python"])
    library, version = found["libc"]
    if architecture == "aarch64" and found["bits"] == 32:
        architecture = "armv7l"  # a 32-bit system on a 64-bit kernel
    if architecture not in _ARCHITECTURES:
        raise DeviceError(f"{device.address}: there is no TFLite runtime for its architecture, {architecture}")
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
    """Raise a `DeviceError` if the device has too little disk space for the wheels, packed and unpacked."""
    needed = _SPARE_BYTES + sum(wheel.stat().st_size for wheel in wheels)
    for wheel in wheels:
        with zipfile.ZipFile(wheel) as archive:
            needed += sum(info.file_size for info in archive.infolist())
    if found["free_bytes"] < needed:
        free = found["free_bytes"] / 1e6
        raise DeviceError(f"{device.address}: needs {needed / 1e6:.0f} MB for the packages, and has {free:.0f} MB free")


def _code() -> bytes:
    """Zip this edgeq's package; the same files give bit-identical archives."""
    package = Path(__file__).parents[1]
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        for path in sorted(package.rglob("*")):
            name = path.relative_to(package)
            if path.is_file() and name.parts[0] != "shipped" and "__pycache__" not in name.parts:
                info = member_info(f"edgeq/{name.as_posix()}")
                archive.writestr(info, path.read_bytes(), zipfile.ZIP_DEFLATED)
    return content.getvalue()
