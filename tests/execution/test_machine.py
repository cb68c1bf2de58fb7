"""Reading the properties of a machine."""

from __future__ import annotations

import json
import platform
from pathlib import Path

import pytest

from edgeq.execution import machine
from edgeq.execution.machine import Machine, read_machine
from edgeq.report.benchmark import machine_notes


def test_this_machine() -> None:
    found = read_machine()
    assert found.architecture == platform.machine()
    assert found.cores >= 1
    assert found.python == platform.python_version()
    assert found.runtimes
    assert Machine.from_json(json.loads(json.dumps(found.to_json()))) == found


def test_throttling_by_the_firmwares_bits(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """0x50005: under-voltage and throttling, now and before (Raspberry Pi documentation, vcgencmd)."""
    tool = tmp_path / "vcgencmd"
    tool.write_text("#!/bin/sh\necho throttled=0x50005\n")
    tool.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    assert read_machine().throttling == (
        "under-voltage",
        "throttled",
        "under-voltage since boot",
        "was throttled since boot",
    )


def test_emulation_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_text", {"/proc/sys/kernel/arch": "x86_64"}.get)
    assert machine._emulated_by("aarch64") == "x86_64"
    assert machine._emulated_by("x86_64") is None
    monkeypatch.setattr(machine, "_text", {"/proc/sys/kernel/arch": "aarch64"}.get)
    assert machine._emulated_by("armv7l") is None  # a 32-bit system on a 64-bit kernel


def test_notes() -> None:
    found = read_machine()
    pretended = Machine(**{**found.to_json(), "emulated_by": "x86_64", "architecture": "aarch64"})
    assert "aarch64 machine is emulated on x86_64" in machine_notes(pretended)[0]
