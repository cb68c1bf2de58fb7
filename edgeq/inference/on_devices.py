"""Classify images with a model that runs on devices."""

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
    """Classify images on several devices at the same time.

    Args:
        hosts: the devices, see :meth:`edgeq.device.address.Address.parse`.
        sources: the images.
        model: the model, loaded on this host, where it preprocesses the images and interprets the outputs.
        top: number of predictions to return per image.
        runtime: the runtime on the devices; None for the fastest one of each device.
        threads: number of threads that the interpreter on a device may use.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        send_images: whether the devices decode the images, which must be files. Otherwise this host preprocesses them
            and sends the tensors, so that all devices get identical inputs.
        progress: called while files are sent to one device; for several devices, with the number that have finished.

    Yields:
        All results of one device, then those of the next. The last result of a device that fails has the error and no
        file.

    Raises:
        InputError: an image is a stream, or an image to be sent is not a file; or a device's address is malformed.
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
                    decode(source)  # raises an error for a file that is not an image, before it is sent
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
