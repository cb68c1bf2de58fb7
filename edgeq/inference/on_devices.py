"""Classifying images with a model that runs on devices."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeq.classification import Classification, top_predictions
from edgeq.device.backend import DeviceBackend
from edgeq.device.device import Device
from edgeq.device.fleet import on_each
from edgeq.errors import ImageError, InputError
from edgeq.images import Source, decode, source_name
from edgeq.progress import Progress
from edgeq.runtime import Model

__all__ = ["classify_on"]


def classify_on(
    hosts: Sequence[str],
    sources: Sequence[Source],
    model: Model,
    top: int,
    runtime: str | None,
    threads: int,
    kernels: str,
    send_images: bool,
    progress: Progress,
) -> Iterator[Classification]:
    """Run a model on devices, on all of them at the same time.

    Args:
        hosts: the devices, see :meth:`edgeq.device.address.Address.parse`.
        sources: the images.
        model: the same model on this host, which prepares the images and reads the outputs.
        top: how many predictions to keep per image.
        runtime: of the devices; None takes the fastest of each.
        threads: of the interpreter there.
        kernels: one of ``edgeq.runtime.KERNELS``.
        send_images: whether the devices decode the images, which must be files. Else tensors travel, so that all see
            the same bytes.
        progress: called while files travel; of several devices, with how many are done.

    Yields:
        The results of one device after the other. A device that fails has one result, with the error and no file.

    Raises:
        InputError: an image is a stream, or is to be sent and is no file; or a host is malformed.
    """
    for source in sources:
        if (isinstance(source, str) and source == "-") or hasattr(source, "read"):
            raise InputError(f"{source_name(source)}: devices take files; standard input and streams are for this host")
        if send_images and not isinstance(source, str | Path):
            raise InputError(f"{source_name(source)}: only files can be sent for a device to decode")

    def run(device: Device) -> list[Classification]:
        backend = DeviceBackend(device, model.path, runtime, threads, kernels)
        name = str(device.address)
        results = []
        for source in sources:
            try:
                if send_images:
                    decode(source)  # so that what is no image is not sent
                    output, times_ms = backend.run_image(str(source), model.preprocessing)
                else:
                    output = backend.run(model.tensor(model.preprocessing.pixels(source)))
                    times_ms = {"invoke": backend.times_ms[-1]}
            except ImageError as error:
                results.append(Classification(source_name(source), device=name, error=error))
                continue
            predictions = top_predictions(model.probabilities(output), model.labels, top)
            results.append(Classification(source_name(source), tuple(predictions), times_ms, name))
        return results

    for outcome in on_each(hosts, run, progress):
        yield from outcome.result or ()
        if outcome.error is not None:
            yield Classification(None, device=outcome.device, error=outcome.error)
