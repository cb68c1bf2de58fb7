"""Run a function on several devices at the same time."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from contextvars import copy_context
from dataclasses import dataclass
from typing import Generic, TypeVar

from edgeq.device.address import Address
from edgeq.device.device import Device
from edgeq.device.setup import connected
from edgeq.errors import EdgeqError
from edgeq.progress import Progress, no_progress

__all__ = ["Outcome", "on_each"]

T = TypeVar("T")


@dataclass
class Outcome(Generic[T]):
    """The outcome on one device: a result or an error.

    Attributes:
        device: the device as the user named it.
        result: the function's result; None if it failed.
        error: why it failed, or None.
    """

    device: str
    result: T | None = None
    error: EdgeqError | None = None


def on_each(hosts: Sequence[str], work: Callable[[Device], T], progress: Progress = no_progress) -> list[Outcome[T]]:
    """Call a function for several devices at the same time. A device that fails does not stop the others.

    Args:
        hosts: addresses of the devices, see :meth:`edgeq.device.address.Address.parse`.
        work: function to call with each device, which is connected and set up.
        progress: called with the progress of a single device; for several, with the number that have finished.

    Returns:
        One outcome per device, in the order of `hosts`, without duplicates.

    Raises:
        InputError: an address is malformed.
    """
    outcomes: list[Outcome[T]] = [Outcome(str(Address.parse(host))) for host in dict.fromkeys(hosts)]
    devices: list[Device] = []
    interrupted = threading.Event()

    def attend(outcome: Outcome[T]) -> None:
        try:
            with connected(outcome.device, progress if len(outcomes) == 1 else no_progress) as device:
                devices.append(device)
                if not interrupted.is_set():
                    outcome.result = work(device)
        except EdgeqError as error:
            outcome.error = error

    if len(outcomes) == 1:
        attend(outcomes[0])
        return outcomes
    threads = [  # in the caller's context, see edgeq.trusting
        threading.Thread(target=copy_context().run, args=(attend, outcome), daemon=True) for outcome in outcomes
    ]
    for thread in threads:
        thread.start()
    try:
        for done, thread in enumerate(threads):
            progress("Devices", done, len(threads))
            thread.join()
    except BaseException:  # ctrl-C interrupts only this thread
        interrupted.set()
        for device in devices:
            device.give_up()
        raise
    return outcomes
