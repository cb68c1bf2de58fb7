"""The images of a comparison, and their true classes where those are known."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import InputError
from edgeq.images import files_below

__all__ = ["LabelledImage", "find_labels", "read_images"]

LABELS_FILE = "labels.csv"


@dataclass(frozen=True)
class LabelledImage:
    """One image of a comparison.

    Attributes:
        path: the file.
        class_index: its true class, from 0; None where that is not known.
    """

    path: Path
    class_index: int | None = None


def read_images(folder: str | Path) -> list[Path]:
    """The files to compare on: all below `folder` but its labels file, sorted.

    Raises:
        InputError: no such folder, or nothing in it.
    """
    root = Path(folder)
    paths = [path for path in files_below(root) if path != root / LABELS_FILE]
    if not paths:
        raise InputError(f"{folder}: holds no images")
    return paths


def find_labels(folder: str | Path, classes: int, names: Sequence[str] = ()) -> tuple[list[LabelledImage], str]:
    """The images below a folder with their true classes.

    These come from ``labels.csv`` in the folder (columns: file, class_index), else from the names of the
    folder's sub-folders: the model's label of that name, else, where there are as many sub-folders as
    classes, their alphabetical order (as Keras has it); else they are not known.

    Args:
        folder: of the images.
        classes: how many the models tell apart, without a background class.
        names: the models' labels, or empty.

    Returns:
        The images, sorted by path (only those that ``labels.csv`` names, where there is one), and a sentence
        on where their classes come from.

    Raises:
        InputError: no such folder, nothing in it, or a labels file that does not make sense.
    """
    root = Path(folder)
    paths = read_images(root)
    if (root / LABELS_FILE).is_file():
        return _from_csv(root, classes), f"true classes from {LABELS_FILE}"
    folders = sorted({path.relative_to(root).parts[0] for path in paths if path.parent != root})
    index, source = _classes_of_folders(folders, classes, names)
    images = [LabelledImage(path, index.get(path.relative_to(root).parts[0])) for path in paths]
    return images, source


def _from_csv(root: Path, classes: int) -> list[LabelledImage]:
    source = root / LABELS_FILE
    try:
        rows = list(csv.reader(source.read_text(encoding="utf-8-sig").splitlines()))
    except UnicodeDecodeError:
        raise InputError(f"{source}: must be UTF-8 text") from None
    images = []
    for number, row in enumerate(rows, start=1):
        if not row or (number == 1 and row[:2] == ["file", "class_index"]):
            continue
        if len(row) < 2 or not row[1].strip().isdecimal():
            raise InputError(f"{source}, line {number}: must be a file and a class index, such as cat.jpg,281")
        class_index = int(row[1])
        if class_index >= classes:
            raise InputError(f"{source}, line {number}: class {class_index}, but the models have {classes}")
        if (root / row[0]).is_file():  # a part of a data set may come with the whole one's labels
            images.append(LabelledImage(root / row[0], class_index))
    if not images:
        raise InputError(f"{source}: names no file that is there")
    return sorted(images, key=lambda image: image.path)


def _classes_of_folders(folders: Sequence[str], classes: int, names: Sequence[str]) -> tuple[dict[str, int], str]:
    by_name = {_plain(name): i for i, name in enumerate(names)}
    index = {folder: by_name[_plain(folder)] for folder in folders if _plain(folder) in by_name}
    if folders and len(index) == len(folders):
        return index, "true classes from the sub-folders, by the models' labels"
    if len(folders) == classes:
        return {f: i for i, f in enumerate(folders)}, "true classes from the sub-folders, in alphabetical order"
    return {}, "no true classes are known, so only agreement is measured"


def _plain(name: str) -> str:
    return name.lower().replace("_", " ").replace("-", " ").strip()
