"""``edgeq compare`` of one model: whether it gives the same everywhere."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence

from edgeq.cli.output import complain, show
from edgeq.cli.progress import Progress
from edgeq.comparison.across_backends import compare_places
from edgeq.device.address import Address
from edgeq.device.device import Device
from edgeq.device.setup import set_up
from edgeq.errors import EXIT_ERROR, DeviceError
from edgeq.execution.backend import DevicePlace, LocalPlace
from edgeq.report.across_backends import agreement_lines
from edgeq.runtime import Model
from edgeq.tflite.metadata import Overrides

__all__ = ["compare_in_places"]


def compare_in_places(
    model_path: str,
    data: str,
    runtimes: Sequence[str],
    hosts: Sequence[str],
    overrides: Overrides,
    json_path: str | None,
) -> None:
    """Print how one model's outputs differ; against the reference kernels here. Exits with 2 if a place failed."""
    failed = []
    with Progress() as progress, contextlib.ExitStack() as stack:
        model = Model(model_path, overrides=overrides)
        addresses = [Address.parse(host) for host in dict.fromkeys(hosts)]
        places: list[LocalPlace | DevicePlace] = []
        for runtime, kernels in [(model.runtime, "reference"), *((r, "default") for r in runtimes or [model.runtime])]:
            place = LocalPlace(model.path, runtime, kernels)
            stack.callback(place.close)
            places.append(place)
        for address in addresses:
            try:
                # The kernels run at the same time, so each has a connection of its own.
                for kernels in ("reference", "default"):
                    device = stack.enter_context(Device(address, progress))
                    set_up(device)
                    places.append(DevicePlace(device, model, None, kernels))
            except DeviceError as error:
                failed.append(str(error))
        result = compare_places(model, data, places, progress)
    show(agreement_lines(result), result.to_json(), json_path)
    for message in dict.fromkeys([*failed, *(place.error for place in result.places if place.error)]):
        complain(message)
        failed.append(message)
    if failed:
        sys.exit(EXIT_ERROR)
