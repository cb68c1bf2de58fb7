"""Choose the images of a representative dataset at random, evenly from all sub-folders."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import ImageError, InputError
from edgeq.files import shipped
from edgeq.images import NOT_AN_IMAGE, files_below, is_image, require_folder
from edgeq.photo_folders import TRAINING, UNLABELLED, refuse_collection
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress, no_progress
from edgeq.tflite.metadata import FINGERPRINT_LENGTH

__all__ = [
    "MINIMUM_IMAGES",
    "CalibrationSet",
    "CalibrationSource",
    "choose_images",
    "record_of",
    "require_images",
    "shipped_images",
]

MINIMUM_IMAGES = 10
"""Smallest number of usable images. Ranges from fewer images would be unreliable, so fewer are an error."""


@dataclass(frozen=True)
class CalibrationSet:
    """The images that a network is calibrated on.

    Attributes:
        folder: the folder that the images come from; None if the files were listed one by one.
        files: the chosen files, in the order of their use.
        pixels: the preprocessed images, one (height, width, channels) uint8 array per file.
        skipped: files that could not be used, each with the reason.
        seed: random seed of the choice.
        digests: SHA-256 digest of each chosen file's content, in hexadecimal.
    """

    folder: Path | None
    files: tuple[Path, ...]
    pixels: tuple[npt.NDArray[np.uint8], ...]
    skipped: tuple[tuple[Path, str], ...]
    seed: int
    digests: tuple[str, ...]

    @property
    def samples(self) -> tuple[npt.NDArray[np.uint8], ...]:
        """What the network is run on: `pixels`."""
        return self.pixels

    def provenance(self) -> dict[str, Any]:
        """Return the record of this set that a calibrated model stores, see `record_of`."""
        return record_of(self.digests, self.seed)


def record_of(digests: Sequence[str], seed: int) -> dict[str, Any]:
    """Return the record of a calibration set that a calibrated model stores: plain JSON data, without paths.

    It has a fingerprint of each image or sample, by which a comparison recognizes what the model was calibrated on.
    """
    return {
        "count": len(digests),
        "seed": seed,
        "sha256": hashlib.sha256("\n".join(digests).encode()).hexdigest(),
        "fingerprints": [digest[:FINGERPRINT_LENGTH] for digest in digests],
    }


CalibrationSource = str | Path | Sequence[str | Path] | CalibrationSet | None
"""A folder of images, a list of image files, an existing set, or None for the images that come with edgeq."""


def shipped_images() -> Path:
    """Return the folder of representative images that comes with edgeq."""
    return shipped("calibration")


def require_images(source: CalibrationSource) -> None:
    """Check that a folder, or each file in a list, exists. This is fast, and is called before slow steps.

    Raises:
        InputError: the folder or a file does not exist.
    """
    if isinstance(source, str | Path):
        require_folder(source)
    elif source is not None and not isinstance(source, CalibrationSet):
        for path in source:
            if not Path(path).is_file():
                raise InputError(f"{path}: {'is not an image file' if Path(path).exists() else 'no such image'}")


def choose_images(
    source: CalibrationSource,
    preprocessing: Preprocessing,
    count: int = 100,
    seed: int = 0,
    progress: Progress = no_progress,
    spared: Collection[str] = (),
) -> CalibrationSet:
    """Choose up to `count` images and preprocess them.

    The files of each sub-folder are shuffled, and then one file is taken from each sub-folder in turn. With one
    sub-folder per class, all classes are represented evenly. Files without an image suffix, damaged images and
    duplicates are skipped.

    Args:
        source: a folder, which is searched recursively; a list of image files; None for the images that come with
            edgeq; or an existing set, which is returned unchanged if it fits the preprocessing.
        preprocessing: how images become the network's input.
        count: number of images to choose.
        seed: random seed of the shuffle; the same seed and files give the same set.
        progress: called with ("Reading calibration images", done, count).
        spared: fingerprints (the start of the content's SHA-256) of images not to choose, because they are held out
            for evaluation.

    Raises:
        InputError: the folder or a file does not exist, there are fewer than `MINIMUM_IMAGES` usable images, or an
            existing set's images have another size or other channels than the input.
    """
    if isinstance(source, CalibrationSet):
        return _fitting(source, preprocessing)
    if count < MINIMUM_IMAGES:
        raise InputError(f"calibration count {count}: must be at least {MINIMUM_IMAGES}")
    files: list[Path] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    digests: dict[str, Path] = {}
    held_out = 0
    folder, paths = _listed(shipped_images() if source is None else source)
    others = [path for path in paths if folder is not None and not is_image(path)]
    skipped = [(path, NOT_AN_IMAGE) for path in others]
    unopened = set(others)
    for path in _taking_turns(paths, seed):
        if len(files) == count:
            break
        if path in unopened:  # removed before the shuffle, it would change which images the seed chooses
            continue
        content = path.read_bytes()
        digest = hashlib.sha256(content).hexdigest()
        if digest in digests:
            skipped.append((path, f"the same as {digests[digest].name}"))
            continue
        if digest[:FINGERPRINT_LENGTH] in spared:
            held_out += 1
            continue
        try:
            pixels.append(preprocessing.pixels(content))
        except ImageError as error:
            skipped.append((path, str(error).partition(": ")[2]))
            continue
        digests[digest] = path
        files.append(path)
        progress("Reading calibration images", len(files), count)
    if len(files) < MINIMUM_IMAGES:
        left_out = f"{len(skipped)} files skipped" + (f", {held_out} held out for evaluation" if held_out else "")
        raise InputError(
            f"{folder or 'the list of images'}: {len(files)} usable images ({left_out}); calibration needs at least "
            f"{MINIMUM_IMAGES}, better 100, like those the model will see"
        )
    return CalibrationSet(folder, tuple(files), tuple(pixels), tuple(skipped), seed, tuple(digests))


def _fitting(chosen: CalibrationSet, preprocessing: Preprocessing) -> CalibrationSet:
    """Return the set; raise an `InputError` if its images do not have the input's size and channels."""
    shape = preprocessing.height, preprocessing.width, len(preprocessing.channels)
    found = {pixels.shape for pixels in chosen.pixels}
    if found != {shape}:
        raise InputError(
            f"the calibration set has images of shapes {sorted(found)}, but the network takes {shape}; make one with "
            "this network's preprocessing"
        )
    return chosen


def _listed(source: str | Path | Sequence[str | Path]) -> tuple[Path | None, list[Path]]:
    """Return the folder, or None for a list of files; and all files, sorted."""
    if isinstance(source, str | Path):
        refuse_collection(source, UNLABELLED, TRAINING)  # what is evaluated must not be calibrated on
        return Path(source), files_below(source)
    require_images(source)
    return None, sorted(map(Path, source))


def _taking_turns(paths: list[Path], seed: int) -> Iterator[Path]:
    """Shuffle each folder's files, then yield one file from each folder in turn until all are used up."""
    shuffle = random.Random(seed).shuffle
    queues: dict[Path, list[Path]] = {}
    for path in paths:
        queues.setdefault(path.parent, []).append(path)
    for queue in queues.values():
        shuffle(queue)
    while queues:
        for parent in list(queues):
            yield queues[parent].pop()
            if not queues[parent]:
                del queues[parent]
