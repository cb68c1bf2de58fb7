"""Names of photos that a camera kept, and the folders that they are sorted into: by purpose, and by class.

``edgeq collect`` writes the folders. Commands that read labelled folders recognize them, so that ``training`` or
``unlabelled`` is never taken for a class. Uses only the standard library, because the agent on a device also lists
photos.
"""

from __future__ import annotations

import hashlib
import os
import re
import unicodedata
from pathlib import Path

from edgeq.errors import InputError

__all__ = [
    "EVALUATION",
    "LEFT_OUT",
    "PHOTO_NAME",
    "RECORDS",
    "TRAINING",
    "UNLABELLED",
    "class_folder",
    "photo_names",
    "refuse_collection",
]

PHOTO_NAME = re.compile(r"\d{8}T\d{6}\.\d{3}Z-\d{6,12}", re.ASCII)
"""The name of a kept photo without its suffix: the time (UTC) and a counter."""

EVALUATION, TRAINING, UNLABELLED = "evaluation", "training", "unlabelled"

LEFT_OUT = "left-out"
"""Labelled photos taken shortly before or after those of the other side."""

RECORDS = ".collected"
"""Hidden folder with one record per photo that was collected."""

_UNSAFE = re.compile(r'[/\\:*?"<>|\x00-\x1f\x7f-\x9f\ud800-\udfff]')
_RESERVED = re.compile(r"(con|prn|aux|nul|com\d|lpt\d)(\..*)?", re.IGNORECASE)  # names that Windows cannot use
_MOST_BYTES = 100  # of a folder's name; file systems allow 255
_TAG = 6  # hexadecimal digits


def photo_names(folder: Path) -> list[str]:
    """List the names, without a suffix, of the photos in a folder that have a record beside them, the oldest first."""
    with os.scandir(folder) as entries:
        files = {entry.name for entry in entries}
    stems = (name.removesuffix(".jpg") for name in files if name.endswith(".jpg"))
    return sorted(stem for stem in stems if PHOTO_NAME.fullmatch(stem) and f"{stem}.json" in files)


def class_folder(label: str) -> str:
    """Return the name of the folder for a class: the label itself, if every file system allows it.

    Otherwise characters that are not allowed become ``_``, and the start of a digest of the label follows, so that two
    labels never share a folder. The name of a folder is its own folder name: ``class_folder(class_folder(x))`` equals
    ``class_folder(x)``.
    """
    plain = unicodedata.normalize("NFC", label)
    safe = _UNSAFE.sub("_", plain).strip().rstrip(".")
    if safe.startswith("."):
        safe = "_" + safe[1:]
    if len(safe.encode()) > _MOST_BYTES:
        safe = safe.encode()[: _MOST_BYTES - _TAG - 1].decode(errors="ignore").rstrip(" .")
    if safe == plain and safe and not _RESERVED.fullmatch(safe):
        return safe
    return f"{safe.partition('.')[0] if _RESERVED.fullmatch(safe) else safe}~{_digest(plain)}"


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="surrogatepass")).hexdigest()[:_TAG]


def refuse_collection(folder: str | Path, *instead: str) -> None:
    """Raise an error if a folder is the top of what ``edgeq collect`` wrote, where sub-folders are not classes.

    Args:
        folder: any path.
        instead: the names of the sub-folders to give instead.

    Raises:
        InputError: it is.
    """
    if (Path(folder) / RECORDS).is_dir():
        names = " or ".join(str(Path(folder) / name) for name in instead)
        raise InputError(f"{folder}: holds collected photos for several purposes; give {names}")
