"""Read a folder of photos, one sub-folder per class, and split it into training and validation photos."""

from __future__ import annotations

import csv
import hashlib
import os
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from edgeq.arrays import mapped_array
from edgeq.errors import ImageError, InputError
from edgeq.files import sha256_of_file
from edgeq.images import NOT_AN_IMAGE, images_below, require_folder
from edgeq.photo_folders import TRAINING, refuse_collection
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress, no_progress
from edgeq.tflite.metadata import read_labels

__all__ = ["Photo", "PhotoSet", "decode_photos", "read_photos", "write_photo_list"]

_ROOM_FOR_CROPS = 0.875  # side of the network's input, as a fraction of the side of decoded training photos


@dataclass(frozen=True)
class Photo:
    """One photo.

    Attributes:
        path: the photo's file.
        class_index: index of its class, which is the position of its sub-folder in alphabetical order.
        digest: SHA-256 digest of its content, in hexadecimal.
    """

    path: Path
    class_index: int
    digest: str


@dataclass(frozen=True)
class PhotoSet:
    """Photos to train on, and held-out photos.

    Attributes:
        folder: the folder that the photos come from.
        classes: names of the classes: the folder's sub-folders, sorted.
        training: photos to train on.
        validation: held-out photos, which are used only to choose the best epoch.
        skipped: files that could not be used, each with the reason.
        test: photos that are held out from training and validation.
    """

    folder: Path
    classes: tuple[str, ...]
    training: tuple[Photo, ...]
    validation: tuple[Photo, ...]
    skipped: tuple[tuple[Path, str], ...] = ()
    test: tuple[Photo, ...] = ()

    @property
    def sha256(self) -> str:
        """SHA-256 digest of all photos' digests, their classes, and the split, in hexadecimal."""
        sides = (f"{photo.digest} {photo.class_index}" for photo in self.training + self.validation + self.test)
        return hashlib.sha256("\n".join([*self.classes, str(len(self.training)), *sides]).encode()).hexdigest()


def read_photos(
    folder: str | Path,
    validation_share: float = 0.2,
    seed: int = 0,
    progress: Progress = no_progress,
    test_share: float = 0.0,
) -> PhotoSet:
    """Find the photos in a folder and split each class into training, validation and, if wanted, test photos.

    The photos of a class are sorted by a hash of their content and the seed, and the first ones are held out. So
    renaming files does not change the split, and adding a photo moves at most one other to the other side. Of identical
    files, only the first is used, so none is on both sides.

    Args:
        folder: folder with one sub-folder per class, each of which is searched recursively.
        validation_share: fraction of each class's photos to hold out, in (0, 1); at least one photo per class is on
            each side.
        seed: random seed of the split.
        progress: called with ("Reading photos", done, total).
        test_share: fraction of each class's photos to hold out from both other sides, in [0, 1); if it is not 0, at
            least one photo per class.

    Raises:
        InputError: the folder does not exist, there are fewer than two classes, a class has too few photos for all
            sides, a class's name cannot be a label, or the folder is the top of what ``edgeq collect`` wrote.
    """
    root = require_folder(folder)
    refuse_collection(root, TRAINING)
    classes = read_labels(root)
    paths, others = images_below(root)
    if len(classes) < 2:
        raise InputError(f"{folder}: has one sub-folder ({classes[0]}); training needs two classes or more")
    for name in classes:
        if name.splitlines() != [name.strip()] or name.encode(errors="replace").decode() != name:
            raise InputError(f"{root / name}: a class's name must be one line of UTF-8 text; rename the folder")
    by_class: dict[str, list[Photo]] = {name: [] for name in classes}
    skipped = [(path, NOT_AN_IMAGE) for path in others]
    seen: dict[str, Path] = {}
    for done, path in enumerate(paths):
        progress("Reading photos", done, len(paths))
        name = path.relative_to(root).parts[0]
        if path.parent == root or name not in by_class:
            skipped.append((path, "in no class's sub-folder"))
            continue
        try:
            digest = sha256_of_file(path)
        except OSError as error:
            skipped.append((path, f"cannot read ({error.strerror})"))
            continue
        if digest in seen:
            skipped.append((path, f"the same as {seen[digest].relative_to(root)}"))
            continue
        seen[digest] = path
        by_class[name].append(Photo(path, classes.index(name), digest))
    fewest = 3 if test_share else 2  # one photo on each side
    for name, photos in by_class.items():
        if len(photos) < fewest:
            count = f"{len(photos)} photo{'' if len(photos) == 1 else 's'}"
            raise InputError(f"{root / name}: {count} (equal files count once); each class needs {fewest}, better 100")
    training: list[Photo] = []
    validation: list[Photo] = []
    test: list[Photo] = []
    for photos in by_class.values():
        drawn = sorted(photos, key=lambda photo: hashlib.sha256(f"{seed} {photo.digest}".encode()).digest())
        tested = min(max(1, round(test_share * len(drawn))), len(drawn) - 2) if test_share else 0
        held_out = tested + min(max(1, round(validation_share * len(drawn))), len(drawn) - tested - 1)
        test += drawn[:tested]
        validation += drawn[tested:held_out]
        training += drawn[held_out:]
    return PhotoSet(root, classes, tuple(training), tuple(validation), tuple(skipped), tuple(test))


def write_photo_list(file: Path, photos: Iterable[tuple[Path, int]], folder: Path) -> None:
    """Write a CSV file with the columns file and class_index, which `edgeq.comparison.find_labels` reads.

    Args:
        file: the file to write.
        photos: the path and the class of each photo.
        folder: folder to which the paths in the file are relative; correct even if reached by a symbolic link.
    """
    with file.open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
        rows = csv.writer(stream, lineterminator="\n")
        rows.writerow(["file", "class_index"])
        for path, index in photos:
            rows.writerow((os.path.relpath(path.parent.resolve() / path.name, folder.resolve()), index))


def decode_photos(
    photos: PhotoSet, preprocessing: Preprocessing, scratch: Path, progress: Progress = no_progress
) -> tuple[PhotoSet, npt.NDArray[np.uint8], npt.NDArray[np.uint8]]:
    """Decode all photos into files that are mapped into memory.

    Args:
        photos: the photos.
        preprocessing: the network's preprocessing. It is applied to validation photos. Training photos are decoded
            without the centre crop and in a larger size, for the random crops of augmentation.
        scratch: folder for the two files.
        progress: called with ("Decoding photos", done, total).

    Returns:
        The photos without those that cannot be decoded, which are added to `skipped`; the pixels of the training
        photos; and those of the validation photos: (N, height, width, channels) uint8 each.

    Raises:
        InputError: a class has no training or no validation photo left.
    """
    roomy = replace(
        preprocessing,
        height=round(preprocessing.height / _ROOM_FOR_CROPS),
        width=round(preprocessing.width / _ROOM_FOR_CROPS),
        crop=1.0,
    )
    total, done = len(photos.training) + len(photos.validation), 0
    skipped = list(photos.skipped)

    def decode(side: Sequence[Photo], how: Preprocessing, name: str) -> tuple[tuple[Photo, ...], npt.NDArray[np.uint8]]:
        nonlocal done
        shape = (len(side), how.height, how.width, len(how.channels))
        pixels = mapped_array(scratch / f"{name}.npy", np.uint8, shape)
        kept: list[Photo] = []
        for photo in side:
            try:
                pixels[len(kept)] = how.pixels(photo.path)
                kept.append(photo)
            except ImageError as error:
                skipped.append((photo.path, str(error).removeprefix(f"{photo.path}: ")))
            done += 1
            progress("Decoding photos", done, total)
        missing = set(range(len(photos.classes))) - set(Counter(photo.class_index for photo in kept))
        if missing:
            raise InputError(f"{photos.folder / photos.classes[min(missing)]}: too few photos that can be decoded")
        return tuple(kept), pixels[: len(kept)]

    training, training_pixels = decode(photos.training, roomy, "training")
    validation, validation_pixels = decode(photos.validation, preprocessing, "validation")
    usable = replace(photos, training=training, validation=validation, skipped=tuple(skipped))
    return usable, training_pixels, validation_pixels
