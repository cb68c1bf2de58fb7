"""Synthesize a representative dataset from a network, as a folder of images that store their provenance."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.calibration.image_folder import replacing_folder, write_images
from edgeq.calibration.statistics import WatchedNetwork
from edgeq.calibration.synthesis import DEFAULT_STEPS, synthesize
from edgeq.errors import ModelError
from edgeq.files import sha256_of_file
from edgeq.networks import open_network
from edgeq.networks.network import tool_versions
from edgeq.preprocessing import Preprocessing, parse_normalization
from edgeq.progress import Progress, no_progress
from edgeq.quiet import heard, quiet
from edgeq.tflite.metadata import Overrides

__all__ = ["SyntheticSet", "synthesize_calibration"]


@dataclass(frozen=True)
class SyntheticSet:
    """A folder of synthesized images.

    Attributes:
        folder: the folder.
        source: the Keras model that the images were made from.
        count: number of images.
        preprocessing: the network's preprocessing, whose size and channels the images have.
        distance: distance of the images' statistics inside the network from the recorded ones, in standard deviations;
            see :func:`edgeq.calibration.statistics.statistics_distance`.
    """

    folder: Path
    source: Path
    count: int
    preprocessing: Preprocessing
    distance: float


def synthesize_calibration(
    source: str | Path,
    out: str | Path,
    *,
    count: int = 100,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    size: tuple[int, int] | None = None,
    normalize: str | None = None,
    channels: str | None = None,
    crop: float | None = None,
    verbose: bool = False,
    progress: Progress = no_progress,
) -> SyntheticSet:
    """Synthesize calibration images from the statistics that a network's BatchNormalization layers recorded.

    For the method, see :mod:`edgeq.calibration.synthesis`. On one machine, the same arguments give the same files.

    Args:
        source: a Keras model (.keras or .h5) with BatchNormalization.
        out: folder for the PNG files: new, empty, or with an earlier set, which is replaced.
        count: number of images.
        seed: random seed of the initial noise.
        steps: number of optimizer steps per batch of images; the time is proportional to it.
        size: (height, width) of the input in pixels, for a model that does not fix them.
        normalize: normalization of pixel values, such as ``0..1``, see :func:`edgeq.preprocessing.parse_normalization`;
            None to use what the model states.
        channels: ``RGB`` or ``BGR``; None to use what the model states, else RGB.
        crop: side of the centre crop, as a fraction of the largest box that fits into the image, in (0, 1]; None to use
            what the model states, else the default for the input's size.
        verbose: whether to let TensorFlow print its messages.
        progress: called with (stage, done, total).

    Raises:
        InputError: an argument is invalid, the folder contains other files, or the model has no BatchNormalization
            statistics.
        ModelError: the model cannot be loaded, or its format does not keep BatchNormalization layers.
        EdgeqError: TensorFlow is not installed.
    """
    progress = heard(progress)
    overrides = Overrides(parse_normalization(normalize) if normalize else None, channels, crop)
    _require_keras(source)
    with replacing_folder(out) as part:
        progress("Loading TensorFlow", 0, 1)
        with quiet(verbose):
            network = open_network(source, size)
            preprocessing = network.preprocessing_with(overrides, str(source))
            watched = WatchedNetwork(network.keeps_alive, preprocessing, str(source))
            images = synthesize(watched, count, seed, steps, progress)
            distance = watched.distance(images)
        origin: dict[str, Any] = {  # without times and paths, so that the same arguments give the same files
            "synthesized_from": {"file": Path(source).name, "sha256": sha256_of_file(source)},
            "count": count,
            "seed": seed,
            "steps": steps,
            "statistics_distance": round(distance, 4),
            "preprocessing": preprocessing.to_json(),
            "tools": tool_versions(),
        }
        write_images(part, images, origin)
    return SyntheticSet(Path(out), Path(source), count, preprocessing, distance)


def _require_keras(source: str | Path) -> None:
    """Raise a `ModelError` for a SavedModel or a .tflite file, before TensorFlow is loaded, which takes seconds."""
    path = Path(source)
    if (path / "saved_model.pb").is_file():
        raise ModelError(
            f"{source}: a SavedModel does not show its BatchNormalization; give the Keras model that it was made from"
        )
    if path.is_file() and path.suffix.lower() == ".tflite":
        raise ModelError(
            f"{source}: is a TFLite model, whose BatchNormalization is folded into its weights; give the Keras model "
            "that it was made from"
        )
