"""List, read and remove kept photos in a folder: on this machine, or on a device, whose agent runs the same functions.

Uses only the standard library, because the agent runs before anything is installed.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from edgeq.errors import InputError
from edgeq.photo_folders import PHOTO_NAME, photo_names

__all__ = ["PHOTO_OPERATIONS", "list_photos", "read_files", "remove_photos"]

_MOST_BYTES = 1 << 23  # of files per answer; a larger file comes alone


def list_photos(folder: str) -> dict[str, str]:
    """Return the SHA-256 digest of the record of each photo, by the photo's name without a suffix.

    Raises:
        InputError: there is no such folder.
    """
    root = _root(folder)
    found = {}
    for name in photo_names(root):
        if (content := _content(root / f"{name}.json")) is not None:
            found[name] = hashlib.sha256(content).hexdigest()
    return found


def read_files(folder: str, names: Sequence[str]) -> tuple[list[int], bytes]:
    """Read photos and records, as many as fit into one answer.

    Returns:
        The sizes of the first files, at least one, and their contents, end to end. The size of a file that is gone is
        -1.
    """
    root, content = _root(folder), bytearray()
    sizes: list[int] = []
    for name in names:
        if sizes and len(content) > _MOST_BYTES:
            break
        found = _content(root / _checked(name))
        sizes.append(-1 if found is None else len(found))
        content += found or b""
    return sizes, bytes(content)


def remove_photos(folder: str, digests: Mapping[str, str]) -> int:
    """Remove photos whose records have not changed; return how many.

    Args:
        folder: the folder.
        digests: the digest of each photo's record, by the photo's name, as from `list_photos`.
    """
    root, removed = _root(folder), 0
    for name, digest in digests.items():
        record = root / _checked(f"{name}.json")
        content = _content(record)
        if content is not None and hashlib.sha256(content).hexdigest() == digest:
            record.with_suffix(".jpg").unlink(missing_ok=True)  # first: a record without a photo does not count
            record.unlink(missing_ok=True)
            removed += 1
    return removed


def _listed(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    return {"photos": list_photos(request["folder"])}, b""


def _read(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    sizes, content = read_files(request["folder"], request["names"])
    return {"sizes": sizes}, content


def _removed(request: dict[str, Any], payload: bytes) -> tuple[dict[str, Any], bytes]:
    return {"removed": remove_photos(request["folder"], request["digests"])}, b""


PHOTO_OPERATIONS = {"list_photos": _listed, "read_files": _read, "remove_photos": _removed}
"""The operations of the agent."""


def _root(folder: str) -> Path:
    root = Path(folder).expanduser()
    if not root.is_dir():
        raise InputError(f"{folder}: {'is a file, not a folder' if root.exists() else 'no such folder'}")
    return root


def _checked(name: str) -> str:
    stem, _, suffix = name.rpartition(".")
    if not PHOTO_NAME.fullmatch(stem) or suffix not in ("jpg", "json"):
        raise InputError(f"{name!r} is not the name of a kept photo")
    return name


def _content(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
