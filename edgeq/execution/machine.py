"""Read a machine's hardware, system and state from /proc, /sys and, on a Raspberry Pi, from its firmware."""

from __future__ import annotations

import platform
import subprocess
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from edgeq.memory import available_bytes
from edgeq.runtime import available_cores, installed_runtimes, runtime_version

__all__ = ["Machine", "cpu_features", "read_machine", "read_temperature_c", "read_throttling"]

_THROTTLING = {
    0: "under-voltage",
    1: "frequency capped",
    2: "throttled",
    3: "soft temperature limit",
    16: "under-voltage since boot",
    17: "frequency was capped since boot",
    18: "was throttled since boot",
    19: "soft temperature limit since boot",
}
"""Meaning of the bits of the firmware's ``get_throttled`` (Raspberry Pi documentation, vcgencmd)."""

_ARM = ("arm", "aarch64")


@dataclass(frozen=True)
class Machine:
    """A machine's properties and its state at one moment; None means unknown.

    Attributes:
        model: name of the board, for example ``Raspberry Pi 4 Model B Rev 1.5``, else of the processor.
        architecture: architecture that the system reports: ``aarch64``, ``armv7l``, ``x86_64``, ...
        emulated_by: architecture of the machine that emulates this one, or None. Times under emulation mean nothing.
        cores: number of cores that this process may use.
        features: vector instruction sets of the processor, by their names in /proc/cpuinfo: ``asimddp``, ``i8mm``,
            ``avx512_vnni``...
        memory_bytes: total memory.
        available_bytes: memory that is available without swapping.
        governor: frequency governor of the first core, such as ``ondemand``.
        frequency_mhz: present frequency of the first core.
        temperature_c: temperature of the processor in degrees Celsius.
        throttling: problems that the board's firmware reports; empty if there are none, None if it cannot be asked.
        system: name and version of the operating system and of the kernel.
        libc: name and version of the C library.
        python: version of Python.
        runtimes: version of each TFLite runtime that can be used, by name.
    """

    model: str | None
    architecture: str
    emulated_by: str | None
    cores: int
    features: tuple[str, ...]
    memory_bytes: int | None
    available_bytes: int | None
    governor: str | None
    frequency_mhz: int | None
    temperature_c: float | None
    throttling: tuple[str, ...] | None
    system: str
    libc: str
    python: str
    runtimes: dict[str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Machine:
        """Make an object from the data that :meth:`to_json` returns."""
        throttling = data["throttling"]
        known = dict(data, features=tuple(data["features"]))
        return cls(**{**known, "throttling": None if throttling is None else tuple(throttling)})


def read_machine() -> Machine:
    """Read the properties and the present state of the machine that this process runs on."""
    cpu, memory = _fields("/proc/cpuinfo"), _fields("/proc/meminfo")
    architecture = platform.machine()
    frequency = _text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_cur_freq")  # in kHz
    return Machine(
        model=_text("/proc/device-tree/model") or cpu.get("Model") or cpu.get("model name") or None,
        architecture=architecture,
        emulated_by=_emulated_by(architecture),
        cores=available_cores(),
        features=_features(cpu),
        memory_bytes=_kilobytes(memory.get("MemTotal")),
        available_bytes=available_bytes(),
        governor=_text("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
        frequency_mhz=int(frequency) // 1000 if frequency and frequency.isdigit() else None,
        temperature_c=read_temperature_c(),
        throttling=read_throttling(),
        system=f"{_os_release()}{platform.system()} {platform.release()}",
        libc=" ".join(platform.libc_ver()).strip() or "unknown",
        python=platform.python_version(),
        runtimes={name: runtime_version(name) for name in installed_runtimes()},
    )


def read_temperature_c() -> float | None:
    """Read the processor's temperature in degrees Celsius; None if the system does not tell it."""
    temperature = _text("/sys/class/thermal/thermal_zone0/temp")  # in thousandths of a degree
    return int(temperature) / 1000 if temperature and temperature.isdigit() else None


def _text(path: str) -> str | None:
    """Return a small file's content; None if it is missing or empty."""
    try:
        return Path(path).read_text(encoding="utf-8", errors="replace").strip("\0 \n") or None
    except OSError:
        return None


def _fields(path: str) -> dict[str, str]:
    """Read a file's lines of the form ``name : value``; if a name occurs several times, its first value counts."""
    found: dict[str, str] = {}
    for line in (_text(path) or "").splitlines():
        name, colon, value = line.partition(":")
        if colon:
            found.setdefault(name.strip(), value.strip())
    return found


def _kilobytes(value: str | None) -> int | None:
    return int(value.split()[0]) * 1024 if value else None


def cpu_features() -> tuple[str, ...]:
    """Return the processor's vector instruction sets, see `Machine.features`."""
    return _features(_fields("/proc/cpuinfo"))


def _features(cpu: dict[str, str]) -> tuple[str, ...]:
    flags = (cpu.get("Features") or cpu.get("flags") or "").split()
    wanted = ("neon", "asimd", "asimddp", "asimdhp", "i8mm", "sve", "avx2", "avx512f", "avx512_vnni", "avx_vnni")
    return tuple(flag for flag in wanted if flag in flags)


def _emulated_by(architecture: str) -> str | None:
    """Return the kernel's architecture if it is of another family, else None.

    A 32-bit userland on a 64-bit Arm kernel is not emulated.
    """
    kernel = _text("/proc/sys/kernel/arch")
    return kernel if kernel and kernel.startswith(_ARM) != architecture.startswith(_ARM) else None


def read_throttling() -> tuple[str, ...] | None:
    """Return the problems that a Raspberry Pi's firmware reports; None if it cannot be asked."""
    try:
        done = subprocess.run(["vcgencmd", "get_throttled"], capture_output=True, text=True, timeout=5, check=True)
        bits = int(done.stdout.strip().partition("=")[2], 16)
    except (OSError, subprocess.SubprocessError, ValueError):
        return None
    return tuple(meaning for bit, meaning in _THROTTLING.items() if bits >> bit & 1)


def _os_release() -> str:
    try:
        return f"{platform.freedesktop_os_release()['PRETTY_NAME']}, "
    except OSError:
        return ""
