"""Tell systemd that a service has started and is alive (the protocol of sd_notify).

Source: sd_notify(3) of systemd. A unit with ``Type=notify`` counts as started when READY=1 arrives. With
``WatchdogSec=``, systemd restarts it if WATCHDOG=1 does not arrive in that time.
"""

from __future__ import annotations

import os
import socket
from contextlib import suppress

__all__ = ["notify_alive", "notify_ready"]


def notify_ready() -> None:
    """Say that the model is loaded. Does nothing if systemd did not start this process."""
    _notify(b"READY=1")


def notify_alive() -> None:
    """Say that there is a result. Does nothing if systemd did not start this process."""
    _notify(b"WATCHDOG=1")


def _notify(state: bytes) -> None:
    address = os.environ.get("NOTIFY_SOCKET")
    if not address:
        return
    if address.startswith("@"):  # an abstract socket
        address = "\0" + address[1:]
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as messages:
        messages.sendto(state, address)
