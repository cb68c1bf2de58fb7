"""Telling systemd that a service is ready and alive, over real sockets."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

from edgeq.watching.service import notify_alive, notify_ready


@pytest.mark.parametrize("abstract", [False, True])
def test_messages_arrive(abstract: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    name = f"edgeq-test-{os.getpid()}" if abstract else str(tmp_path / "notify")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
        messages.bind(f"\0{name}" if abstract else name)
        messages.settimeout(5)
        monkeypatch.setenv("NOTIFY_SOCKET", f"@{name}" if abstract else name)
        notify_ready()
        notify_alive()
        assert [messages.recv(100) for _ in range(2)] == [b"READY=1", b"WATCHDOG=1"]


def test_without_systemd_or_after_it_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    notify_ready()
    monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "gone"))
    notify_alive()
