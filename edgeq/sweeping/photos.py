"""The photos of a sweep: those to train on, those that choices use, and those that no choice uses."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.comparison import find_labels
from edgeq.comparison.dataset import LABELS_FILE
from edgeq.errors import InputError
from edgeq.files import replacing, sha256_of_file
from edgeq.networks.imagenet import IMAGENET_CLASSES
from edgeq.progress import Progress
from edgeq.sweeping.plan import SweepPlan
from edgeq.sweeping.store import LISTS
from edgeq.training import read_photos, write_photo_list

__all__ = ["SweepPhotos", "find_photos"]

_FEWEST = 2  # photos: one for choices, one for the test


@dataclass(frozen=True)
class SweepPhotos:
    """The photos of a sweep.

    Attributes:
        classes: number of classes.
        training: number of photos to train on.
        validation: path and class of the photos that choose the best epoch and the best cells.
        test: path and class of the photos that no choice uses.
        sha256: digest of the content, the classes and the split of all photos.
        notes: sentences on the photos, without a full stop.
    """

    classes: int
    training: int
    validation: tuple[tuple[Path, int], ...]
    test: tuple[tuple[Path, int], ...]
    sha256: str
    notes: tuple[str, ...]

    def write_lists(self, folder: Path) -> tuple[Path, Path]:
        """Write the CSV files of the validation and the test photos into a folder, and return their paths."""
        paths = folder / LISTS[0], folder / LISTS[1]
        with replacing(paths) as parts:
            for part, photos in zip(parts, (self.validation, self.test), strict=True):
                write_photo_list(part, photos, folder)
        return paths


def find_photos(
    folder: str | Path, plan: SweepPlan, imagenet_names: Callable[[], Sequence[str]], progress: Progress
) -> SweepPhotos:
    """Find and split the photos of a sweep.

    Args:
        folder: a folder with one sub-folder per class. For networks with ImageNet weights, its sub-folders are named
            after ImageNet's classes, or it has a ``labels.csv``, see `edgeq.comparison.find_labels`.
        plan: the plan.
        imagenet_names: returns ImageNet's class names; called only if they are needed.
        progress: called with ("Reading photos", done, total).

    Raises:
        InputError: the folder does not exist, the classes are unknown, or there are too few classes or photos.
    """
    if plan.training is None:
        return _for_imagenet(Path(folder), plan, imagenet_names, progress)
    found = read_photos(folder, plan.training.validation_share, plan.seed, progress, plan.test_share)
    notes = (f"{len(found.skipped)} files of {folder} are not used",) if found.skipped else ()
    validation, test = (
        tuple((photo.path, photo.class_index) for photo in side) for side in (found.validation, found.test)
    )
    return SweepPhotos(len(found.classes), len(found.training), validation, test, found.sha256, notes)


def _for_imagenet(
    folder: Path, plan: SweepPlan, imagenet_names: Callable[[], Sequence[str]], progress: Progress
) -> SweepPhotos:
    """Find photos of ImageNet's classes. They are split at random, because there may be only one per class."""
    listed = folder.suffix.lower() == ".csv" or (folder / LABELS_FILE).is_file()
    images, notes = find_labels(folder, IMAGENET_CLASSES, () if listed else imagenet_names())
    known = [(image.path, image.class_index) for image in images if image.class_index is not None]
    if len(known) < _FEWEST:
        raise InputError(
            f"{folder}: {notes[0]}; a sweep with ImageNet weights needs {LABELS_FILE}, or sub-folders named after "
            "ImageNet's classes"
        )
    digests = []
    for done, (path, _) in enumerate(known):
        progress("Reading photos", done, len(known))
        digests.append(sha256_of_file(path))
    order = sorted(range(len(known)), key=lambda i: hashlib.sha256(f"{plan.seed} {digests[i]}".encode()).digest())
    tested = min(max(1, round(plan.test_share * len(known))), len(known) - 1)
    content = "\n".join(f"{digests[i]} {known[i][1]}" for i in order)
    test, validation = (tuple(known[i] for i in sorted(side)) for side in (order[:tested], order[tested:]))
    return SweepPhotos(
        IMAGENET_CLASSES, 0, validation, test, hashlib.sha256(f"{tested}\n{content}".encode()).hexdigest(), tuple(notes)
    )
