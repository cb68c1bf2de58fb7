"""Choosing the images of a representative dataset, by seed, spread over sub-folders."""

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
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress, no_progress
from edgeq.tflite.metadata import FINGERPRINT_LENGTH

__all__ = [
    "MINIMUM_IMAGES",
    "CalibrationSet",
    "CalibrationSource",
    "choose_images",
    "require_images",
    "shipped_images",
]

MINIMUM_IMAGES = 10
"""Fewer usable images than this give ranges that mean nothing, and are an error."""


@dataclass(frozen=True)
class CalibrationSet:
    """The images that a network is calibrated on.

    Attributes:
        folder: where they come from; None for files that were listed one by one.
        files: those chosen, in the order of their use.
        pixels: one (height, width, channels) uint8 array a file.
        skipped: files that could not serve, each with the reason.
        seed: of the choice.
        digests: SHA-256 of each chosen file's content, in hexadecimal.
    """

    folder: Path | None
    files: tuple[Path, ...]
    pixels: tuple[npt.NDArray[np.uint8], ...]
    skipped: tuple[tuple[Path, str], ...]
    seed: int
    digests: tuple[str, ...]

    def provenance(self) -> dict[str, Any]:
        """Return the record that a calibrated model keeps of this set: plain JSON data, without paths.

        With a fingerprint of each image, so that a comparison can tell whether it looks at the same ones.
        """
        return {
            "count": len(self.files),
            "seed": self.seed,
            "sha256": hashlib.sha256("\n".join(self.digests).encode()).hexdigest(),
            "fingerprints": [digest[:FINGERPRINT_LENGTH] for digest in self.digests],
        }


CalibrationSource = str | Path | Sequence[str | Path] | CalibrationSet | None
"""A folder of images, a list of image files, a set made before, or None for the images that come with edgeq."""


def shipped_images() -> Path:
    """The folder of representative images that comes with edgeq."""
    return shipped("calibration")


def require_images(source: CalibrationSource) -> None:
    """Check that a folder or all files of a list exist, before anything that takes long.

    Raises:
        InputError: one does not.
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

    The files of each sub-folder are shuffled by `seed`; then the sub-folders take turns, so that a folder per
    class is represented evenly. Files of a folder that are not images by their names, and images that are damaged or
    the same as an earlier one, are skipped.

    Args:
        source: a folder, searched recursively for anything Pillow reads; image files; None for the images that come
            with edgeq; or a set made before, which is taken as it is, whatever the other arguments say.
        preprocessing: what the network sees of an image.
        count: how many images.
        seed: of the shuffle; the same seed and files give the same set.
        progress: called with ("Reading calibration images", done, count).
        spared: fingerprints (the start of the content's SHA-256) of photos that others are kept for.

    Raises:
        InputError: no such folder or file, fewer than `MINIMUM_IMAGES` usable images, or a set for another input.
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
        if path in unopened:  # they take their turn all the same: which images are chosen must not change
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
    """The set, if its images have the input's size and channels."""
    shape = preprocessing.height, preprocessing.width, len(preprocessing.channels)
    found = {pixels.shape for pixels in chosen.pixels}
    if found != {shape}:
        raise InputError(
            f"the calibration set has images of shapes {sorted(found)}, but the network takes {shape}; make one with "
            "this network's preprocessing"
        )
    return chosen


def _listed(source: str | Path | Sequence[str | Path]) -> tuple[Path | None, list[Path]]:
    """The folder, if it is one, and the files, sorted."""
    if isinstance(source, str | Path):
        return Path(source), files_below(source)
    require_images(source)
    return None, sorted(map(Path, source))


def _taking_turns(paths: list[Path], seed: int) -> Iterator[Path]:
    """Shuffle each folder's files, then take one of each folder in turn until all are used up."""
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
