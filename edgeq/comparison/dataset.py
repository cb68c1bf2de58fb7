"""Find the images of a comparison and, where they are known, their true classes."""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import InputError
from edgeq.images import images_below, skipped_note
from edgeq.photo_folders import EVALUATION, UNLABELLED, class_folder, refuse_collection

__all__ = [
    "LABELS_FILE",
    "LabelledImage",
    "classes_of_folders",
    "find_labels",
    "left_out_note",
    "read_images",
    "rows_of_labels",
]

LABELS_FILE = "labels.csv"
"""Name of the file with the true classes in a folder of images."""


@dataclass(frozen=True)
class LabelledImage:
    """One image of a comparison.

    Attributes:
        path: the image file.
        class_index: index of its true class, from 0; None if unknown.
    """

    path: Path
    class_index: int | None = None


def read_images(folder: str | Path) -> tuple[list[Path], list[Path]]:
    """List all images in a folder and below it, and the other files except the labels file. Both are sorted.

    Raises:
        InputError: the folder does not exist, or contains no images.
    """
    images, others = images_below(folder)
    return images, [path for path in others if path != Path(folder) / LABELS_FILE]


def find_labels(folder: str | Path, classes: int, names: Sequence[str] = ()) -> tuple[list[LabelledImage], list[str]]:
    """List the images in a folder, or those that a labels file names, with their true classes.

    In a folder, the true classes come from the first of these sources that applies:

    1. ``labels.csv`` in the folder, with the columns file and class_index. Images that it does not name are left out.
    2. The names of the sub-folders, if each is the label of exactly one class of the models.
    3. The alphabetical order of the sub-folders (as in Keras), if the models have no labels and there are as many
       sub-folders as classes.

    Otherwise the classes are unknown.

    Args:
        folder: the folder of images; or a CSV file such as ``labels.csv``, whose file names are relative to its folder.
        classes: the models' number of classes, without a background class.
        names: the models' labels, or empty.

    Returns:
        The images, sorted by path; and sentences on where their classes come from and what was skipped.

    Raises:
        InputError: the folder does not exist or contains no images, the labels file is invalid, or the folder is the
            top of what ``edgeq collect`` wrote.
    """
    root = Path(folder)
    if root.suffix.lower() == ".csv" and not root.is_dir():
        return _from_csv(root, classes), [f"true classes from {root.name}"]
    refuse_collection(root, EVALUATION, UNLABELLED)
    paths, others = read_images(root)
    skipped = [skipped_note(len(others))] if others else []
    if (root / LABELS_FILE).is_file():
        images = _from_csv(root / LABELS_FILE, classes)
        notes = [f"true classes from {LABELS_FILE}"]
        if len(images) < len(paths):
            notes.append(left_out_note(len(paths) - len(images)))
        return images, notes + skipped
    folders = sorted({path.relative_to(root).parts[0] for path in paths if path.parent != root})
    index, source = classes_of_folders(folders, classes, names)
    images = [LabelledImage(path, index.get(path.relative_to(root).parts[0])) for path in paths]
    return images, [source, *skipped]


def left_out_note(count: int) -> str:
    """Return a note on images that the labels file does not name."""
    return f"left out {count} {'file' if count == 1 else 'files'} that {LABELS_FILE} does not name"


def _from_csv(source: Path, classes: int) -> list[LabelledImage]:
    try:  # file names may not be UTF-8
        text = source.read_text(encoding="utf-8-sig", errors="surrogateescape")
    except OSError as error:
        raise InputError(f"{source}: cannot read labels ({error.strerror})") from None
    images = {}
    for number, name, class_index in rows_of_labels(text, source, classes):
        path = source.parent / name
        if path in images:
            raise InputError(f"{source}, line {number}: names {name} a second time")
        if os.path.isfile(path):  # noqa: PTH113 (Path.is_file raises an error for a name that no file can have)
            images[path] = LabelledImage(path, class_index)
        elif name.encode(errors="replace").decode() != name:
            raise InputError(f"{source}, line {number}: must be UTF-8 text")
        # Ignore a missing file: the labels may be those of a larger data set.
    if not images:
        raise InputError(f"{source}: none of the files that it names exists; names are relative to its folder")
    return [images[path] for path in sorted(images)]


def rows_of_labels(text: str, source: object, classes: int) -> Iterator[tuple[int, str, int]]:
    """Read the text of a labels file; yield the line number, the file name and the class index of each row.

    Args:
        text: the file's content.
        source: the file's name in error messages.
        classes: number of classes.

    Raises:
        InputError: a line is invalid.
    """
    try:
        rows = list(csv.reader(text.splitlines()))
    except csv.Error as error:
        raise InputError(f"{source}: cannot read labels ({error})") from None
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and row[:2] == ["file", "class_index"]):
            continue
        if len(row) < 2 or not row[1].strip().isdecimal():
            raise InputError(f"{source}, line {number}: must be a file name and a class index, such as cat.jpg,281")
        class_index = int(row[1])
        if class_index >= classes:
            raise InputError(f"{source}, line {number}: class {class_index}, but the models have {classes}")
        yield number, row[0], class_index


def classes_of_folders(folders: Sequence[str], classes: int, names: Sequence[str]) -> tuple[dict[str, int], str]:
    """Return the class index of each sub-folder, or none, and a sentence on it; see :func:`find_labels`."""
    if not folders:
        return {}, "no true classes are known, so accuracy is not measured"
    if names:
        plain = [_plain(class_folder(name)) for name in names]  # a label may not be a folder's name
        # A name that two classes share, such as ImageNet's crane, is ambiguous.
        unknown = [folder for folder in folders if plain.count(_plain(folder)) != 1]
        if unknown:
            listed = ", ".join(unknown[:3]) + (", ..." if len(unknown) > 3 else "")
            return {}, f"sub-folders that are not named after exactly one class ({listed}), so accuracy is not measured"
        return {f: plain.index(_plain(f)) for f in folders}, "true classes from the sub-folders, by the models' labels"
    if len(folders) == classes:
        return {f: i for i, f in enumerate(folders)}, "true classes from the sub-folders, in alphabetical order"
    return {}, f"{len(folders)} sub-folders for {classes} classes without labels, so accuracy is not measured"


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()
