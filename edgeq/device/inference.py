"""Classifying images with a model that runs on a device."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from edgeq.classification import Prediction, top_predictions
from edgeq.device.backend import DeviceBackend
from edgeq.device.device import Device
from edgeq.errors import ImageError
from edgeq.images import decode
from edgeq.runtime import Model

__all__ = ["DevicePredictions", "infer_on"]


@dataclass(frozen=True)
class DevicePredictions:
    """What a device predicts for one image.

    Attributes:
        file: the image.
        predictions: best first; empty where it could not be decoded.
        times_ms: of decoding, preprocessing and invoking, on the device.
        error: why it could not be decoded, or None.
    """

    file: str
    predictions: tuple[Prediction, ...] = ()
    times_ms: dict[str, float] | None = None
    error: ImageError | None = None


def infer_on(
    device: Device,
    model: Model,
    images: Iterable[str],
    *,
    top: int = 5,
    runtime: str | None = None,
    threads: int = 4,
    kernels: str = "default",
    send_images: bool = False,
) -> list[DevicePredictions]:
    """Run a model on a device on one image after the other.

    Args:
        device: that is set up.
        model: the same model here, which prepares the images and reads the outputs.
        images: files.
        top: how many predictions to keep.
        runtime: of the device; None takes its fastest.
        threads: of the interpreter there.
        kernels: one of ``edgeq.runtime.KERNELS``.
        send_images: whether the images themselves travel and the device decodes them. Otherwise the tensors do, so that
            both see the same bytes, and the time of decoding is not the device's.

    Raises:
        DeviceError: the device fails, or is unreachable.
    """
    backend = DeviceBackend(device, model.path, runtime, threads, kernels)
    results = []
    for name in images:
        try:
            if send_images:
                decode(name)  # so that what is no image is not sent
                output, times_ms = backend.run_image(name, model.preprocessing)
            else:
                output = backend.run(model.tensor(model.preprocessing.pixels(name)))
                times_ms = {"invoke": backend.times_ms[-1]}
        except ImageError as error:
            results.append(DevicePredictions(name, error=error))
            continue
        best = top_predictions(model.probabilities(output), model.labels, top)
        results.append(DevicePredictions(name, tuple(best), times_ms))
    return results
