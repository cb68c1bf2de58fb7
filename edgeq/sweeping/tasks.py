"""The tasks of a sweep, each a function from JSON data to JSON data; see :mod:`edgeq.sweeping.running`.

Each may be called again after it was interrupted: it then reuses what is complete, and replaces the rest.
"""

from __future__ import annotations

import functools
import resource
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from edgeq.errors import ConversionError, DivergedError, ModelError, UnavailableWeightsError, WeightsError

__all__ = ["build", "class_names", "finish", "measure", "missing_weights", "train_for"]

Task = Callable[..., dict[str, Any]]

_FEWEST_CALIBRATION_IMAGES = 10
_OF_THE_CELL = (ConversionError, DivergedError, ModelError, WeightsError)  # other errors would hit every cell


def _task(function: Task) -> Task:
    """Make a task: a function that a worker process calls with raw bytes, of which there are none, and JSON data."""

    @functools.wraps(function)
    def run(payload: bytes = b"", **arguments: Any) -> dict[str, Any]:
        try:
            answer = function(**arguments)
        except _OF_THE_CELL as error:
            answer = {"failed": str(error)}
        return answer | {"peak_rss_bytes": 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}

    return run


class _PausedError(Exception):
    """Ends a training so that it can be resumed."""


@_task
def class_names() -> dict[str, Any]:
    """Return ImageNet's class names, or none if they are unavailable."""
    from edgeq.networks.imagenet import imagenet_labels
    from edgeq.networks.network import require_tensorflow

    require_tensorflow()
    return {"names": list(imagenet_labels())}


@_task
def missing_weights(architectures: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return why architectures have no ImageNet weights, by name; those that have weights are left out."""
    from edgeq.networks import Architecture
    from edgeq.networks.imagenet import imagenet_weights
    from edgeq.networks.network import require_tensorflow

    require_tensorflow()
    missing = {}
    for data in architectures:
        architecture = Architecture(**data)
        try:
            imagenet_weights(architecture)
        except UnavailableWeightsError as error:
            reason = f"ImageNet's weights are neither in Keras's cache nor can they be downloaded ({error.reason})"
            missing[architecture.name] = reason
        except WeightsError as error:
            missing[architecture.name] = str(error)
    return {"missing": missing}


@_task
def build(architecture: dict[str, Any], formats: Sequence[str], out: str) -> dict[str, Any]:
    """Convert a network with random weights, to measure its latency.

    The random weights preserve the power of the activations from layer to layer, see `edgeq.networks.building`, so that
    the network can be quantized. CellLatency and size do not depend on the weights.

    Args:
        architecture: the architecture.
        formats: names in ``edgeq.conversion.FORMATS``.
        out: folder for the files.

    Returns:
        ``files``: the path of each file by format; ``errors``: why a format is impossible.
    """
    from edgeq.calibration import choose_images
    from edgeq.conversion import convert_network
    from edgeq.networks import Architecture, build_network

    a = Architecture(**architecture)
    network = build_network(
        a.family, a.height, a.width, alpha=a.alpha, classes=a.classes, output_stride=a.output_stride, weights="none"
    )
    assert network.preprocessing is not None
    calibration = choose_images(None, network.preprocessing, _FEWEST_CALIBRATION_IMAGES)

    def convert(wanted: Sequence[str]) -> dict[str, str]:
        models = convert_network(network, network.preprocessing, wanted, out, calibration=calibration, refine=False)
        return {model.format: str(model.path) for model in models}

    try:
        return {"files": convert(formats), "errors": {}}
    except ConversionError:  # perhaps only one of the formats is impossible
        files: dict[str, str] = {}
        errors: dict[str, str] = {}
        for form in formats:
            try:
                files |= convert([form])
            except ConversionError as error:
                errors[form] = str(error)
        return {"files": files, "errors": errors}


@_task
def train_for(folder: str, out: str, plan: dict[str, Any], epochs: int, limit_s: float | None) -> dict[str, Any]:
    """Train a network for some epochs, or on to the end.

    Args:
        folder: the photos.
        out: the .keras file to write at the end of the training.
        plan: the training plan.
        epochs: number of epochs of the whole training after which to pause; 0 to end at once with the best epoch so
            far, if there is one.
        limit_s: seconds after which to pause, at the end of an epoch; None for no limit.

    Returns:
        ``finished``: whether the training is at its end, and the file written.
    """
    from edgeq.quiet import quiet
    from edgeq.training import Epoch, TrainingPlan, can_resume, epochs_so_far, train

    chosen = TrainingPlan.from_json(plan)
    resume = can_resume(out)
    done = {(epoch.cycle, epoch.number) for epoch in epochs_so_far(out)}
    started = latest = time.monotonic()

    def on_epoch(epoch: Epoch) -> None:
        nonlocal latest
        now = time.monotonic()
        took, latest = now - latest, now
        done.add((epoch.cycle, epoch.number))
        if len(done) >= chosen.all_epochs or not epochs:
            return
        late = limit_s is not None and now + took > started + limit_s
        if len(done) >= epochs or late:
            raise _PausedError

    try:
        with quiet():
            train(folder, out, chosen, resume=resume, on_epoch=on_epoch, stop=lambda: epochs == 0)
    except _PausedError:
        for pixels in ("training.npy", "validation.npy"):  # large, and decoded again when the training is resumed
            Path(f"{out}.training", pixels).unlink(missing_ok=True)
        return {"finished": False}
    return {"finished": True}


@_task
def finish(
    source: str | None,
    architecture: dict[str, Any],
    formats: Sequence[str],
    out: str,
    calibration: str | None,
    calibration_count: int,
    seed: int,
) -> dict[str, Any]:
    """Convert a network with its final weights.

    Args:
        source: the trained network's .keras file; None for ImageNet weights.
        architecture: the architecture.
        formats: names in ``edgeq.conversion.FORMATS``.
        out: folder for the files.
        calibration: folder of calibration images; None for the images that come with edgeq.
        calibration_count: number of calibration images.
        seed: random seed of their choice.

    Returns:
        ``files``: the path of each file by format, including the float32 reference.
    """
    from edgeq.conversion import convert
    from edgeq.networks import Architecture, build_network

    a = Architecture(**architecture)

    def with_imagenet_weights() -> Any:
        return build_network(
            a.family, a.height, a.width, alpha=a.alpha, output_stride=a.output_stride, weights="imagenet"
        )

    conversion = convert(
        source or with_imagenet_weights,
        formats,
        out,
        calibration=calibration,
        count=calibration_count,
        seed=seed,
    )
    return {"files": {form: str(model.path) for form, model in conversion.models.items()}}


@_task
def measure(reference: str, candidate: str, data: str, runtime: str | None) -> dict[str, Any]:
    """Measure the accuracy of a file, and its agreement with the float32 reference, on labelled photos.

    Args:
        reference: the float32 file.
        candidate: the file to measure.
        data: the CSV file that lists the photos and their classes.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None for the fastest one.
    """
    from dataclasses import asdict

    from edgeq.comparison import compare
    from edgeq.sweeping.result import CellAccuracy

    return {
        "accuracy": asdict(CellAccuracy.of(compare(reference, candidate, data, runtime=runtime, labels_needed=True)))
    }
