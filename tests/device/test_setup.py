"""Which devices are fit to be set up, by what they say of themselves."""

from __future__ import annotations

import io
import zipfile
from types import SimpleNamespace
from typing import Any

import pytest

from edgeq.device.address import Address
from edgeq.device.setup import _code, _platform
from edgeq.errors import DeviceError

PI = {"architecture": "aarch64", "bits": 64, "python": [3, 11], "libc": ["glibc", "2.36"]}


def platform_of(**changes: Any) -> str:
    device: Any = SimpleNamespace(address=Address("board"))
    return str(_platform(device, {**PI, **changes}))


@pytest.mark.parametrize(
    ("changes", "platform"),
    [
        ({}, "linux_aarch64-cp311"),
        ({"python": [3, 13], "libc": ["glibc", "2.41"]}, "linux_aarch64-cp313"),
        ({"bits": 32}, "linux_armv7l-cp311"),  # a 32-bit system on a 64-bit kernel
        ({"architecture": "armv7l", "bits": 32}, "linux_armv7l-cp311"),
        ({"architecture": "x86_64"}, "linux_x86_64-cp311"),
    ],
)
def test_what_fits(changes: dict[str, Any], platform: str) -> None:
    assert platform_of(**changes) == platform


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"architecture": "riscv64"}, "board: there is no TFLite runtime for its architecture, riscv64"),
        ({"architecture": "armv6l", "bits": 32}, "board: .* armv6l"),
        ({"architecture": "armv7l", "bits": 32, "python": [3, 13]}, "is 32-bit with Python 3.13"),
        ({"libc": ["", ""]}, "has no glibc"),
        ({"libc": ["glibc", "2.24"]}, "has glibc 2.24, older than the 2.28"),
    ],
)
def test_what_does_not(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(DeviceError, match=reason):
        platform_of(**changes)


def test_the_sources_that_travel_are_the_same_each_time_and_hold_no_pictures() -> None:
    code = _code()
    assert code == _code()
    names = zipfile.ZipFile(io.BytesIO(code)).namelist()
    assert "edgeq/device/agent.py" in names
    assert not [name for name in names if "shipped" in name or "__pycache__" in name or name.endswith(".pyc")]
    assert len(code) < 600_000
