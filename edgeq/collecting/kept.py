"""Kept photos on disk: each a JPEG, and a record beside it that says what the model saw and what a person said.

The two files have the same name, such as ``20261122T143005.250Z-000012.jpg`` and ``.json``: the time of the frame (UTC)
and a counter, so that names sort by time. They are written together or not at all. A photo without a record, or a
record without a photo, does not count.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from edgeq.errors import InputError
from edgeq.files import replacing
from edgeq.photo_folders import PHOTO_NAME, photo_names

__all__ = [
    "KeptPhoto",
    "kept_photos",
    "name_of",
    "remove_unpaired_records",
    "write_photo",
    "write_record",
    "write_synced",
]

_TEXTS_OR_NONE = ("label", "confirmed_by", "seen")
_LISTS = ("reasons", "predictions")


@dataclass(frozen=True)
class KeptPhoto:
    """The record of a kept photo.

    Attributes:
        time: when the frame was captured, in seconds since 1970.
        sha256: SHA-256 digest of the photo's file, in hexadecimal.
        label: the label that a person confirmed or gave; None if no person did.
        confirmed_by: who did; None if no person did.
        reasons: why it was kept: ``below``, ``every``, ``changed`` or ``by hand``.
        seen: the smoothed label that the model gave; None if no class was probable enough.
        probability: average probability of `seen`, or of the most probable class.
        predictions: the most probable classes of this frame alone, as JSON data.
        source: the name of the source, without a password.
        frame: the frame's number in the source.
        model: name and digest of the model's file.
        hash: the photo's difference hash, as 16 hexadecimal digits.
    """

    time: float
    sha256: str
    label: str | None = None
    confirmed_by: str | None = None
    reasons: tuple[str, ...] = ()
    seen: str | None = None
    probability: float = 0.0
    predictions: tuple[dict[str, Any], ...] = ()
    source: str = ""
    frame: int = 0
    model: dict[str, str] | None = None
    hash: str = "0" * 16

    def to_bytes(self) -> bytes:
        """Return the record's file."""
        utc = datetime.fromtimestamp(self.time, timezone.utc).isoformat(timespec="milliseconds")
        return (json.dumps({"utc": utc} | asdict(self), indent=1, ensure_ascii=False) + "\n").encode(errors="replace")

    @classmethod
    def from_bytes(cls, content: bytes) -> KeptPhoto:
        """Read a record. It may come from a board, so that nothing in it is trusted.

        Raises:
            ValueError: it is no record of a photo.
        """
        try:
            found = json.loads(content)
        except RecursionError:
            raise ValueError("nested too deeply") from None
        if not isinstance(found, dict):
            raise ValueError("not a JSON object")
        known = {name: found[name] for name in cls.__dataclass_fields__ if name in found}
        if not isinstance(known.get("time"), int | float) or not 0 <= known["time"] < 1e11:
            raise ValueError("has no time")
        if not re.fullmatch("[0-9a-f]{64}", str(known.get("sha256"))):
            raise ValueError("has no digest")
        if not re.fullmatch("[0-9a-f]{16}", str(known.get("hash", "0" * 16))):
            raise ValueError("has no hash")
        if not all(isinstance(known.get(name), str | None) for name in _TEXTS_OR_NONE):
            raise ValueError("has a label that is no text")
        if not all(isinstance(known.get(name) or [], list) for name in _LISTS):
            raise ValueError("has reasons or predictions that are no list")
        return cls(**known | {name: tuple(known.get(name) or ()) for name in _LISTS})


def name_of(time: float, counter: int) -> str:
    """Return the name of a photo, without a suffix.

    Args:
        time: when the frame was captured, in seconds since 1970.
        counter: a number that tells photos of the same time apart.
    """
    moment = datetime.fromtimestamp(time, timezone.utc)
    return f"{moment:%Y%m%dT%H%M%S}.{moment.microsecond // 1000:03}Z-{counter:06}"


def kept_photos(folder: Path) -> Iterator[tuple[str, int]]:
    """Yield the name, without a suffix, and the size with its record, in bytes, of each photo, the oldest first."""
    for name in photo_names(folder):
        with suppress(FileNotFoundError):  # it is being collected and removed
            yield name, sum((folder / f"{name}{suffix}").stat().st_size for suffix in (".jpg", ".json"))


def remove_unpaired_records(folder: Path) -> None:
    """Remove records without a photo: the process was killed while it removed a photo, or a person removed it."""
    for record in folder.glob("*.json"):
        if PHOTO_NAME.fullmatch(record.stem) and not record.with_suffix(".jpg").exists():
            record.unlink(missing_ok=True)


def write_photo(folder: Path, name: str, jpeg: bytes, record: KeptPhoto) -> Path:
    """Write a photo and its record, both or none, and return the photo's path.

    Raises:
        InputError: they cannot be written; for example, the disk is full.
    """
    photo = folder / f"{name}.jpg"
    with replacing([photo, photo.with_suffix(".json")]) as (new_photo, new_record):
        write_synced(new_photo, jpeg)
        write_synced(new_record, record.to_bytes())
    return photo


def write_record(photo: Path, record: KeptPhoto) -> None:
    """Replace the record of a photo.

    Raises:
        InputError: it cannot be written, or the photo is no longer there.
    """
    if not photo.exists():
        raise InputError(f"{photo}: no such photo")
    with replacing([photo.with_suffix(".json")]) as (new,):
        write_synced(new, record.to_bytes())


def write_synced(path: Path, content: bytes) -> None:
    """Write a file, and wait until it is on the disk: a board may lose its power at any time."""
    with path.open("wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
