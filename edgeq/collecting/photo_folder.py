"""A folder of kept photos that stays within a limit and leaves room on the disk."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.closing import Closing
from edgeq.collecting.kept import (
    KeptPhoto,
    kept_photos,
    name_of,
    remove_unpaired_records,
    write_photo,
    write_record,
)
from edgeq.errors import InputError
from edgeq.work_folders import lock_folder, remove_leftovers

__all__ = ["PhotoFolder"]

_LOCK = ".keeping"


@dataclass
class _Entry:
    """A photo in the folder."""

    name: str
    size_bytes: int
    labelled: bool


class PhotoFolder(Closing):
    """The photos in a folder that only this process writes to.

    When the folder reaches its limit, the oldest photos without a person's label are removed. Labelled ones never are.
    Another process may remove photos, as ``edgeq collect --remove`` does.
    """

    def __init__(self, folder: Path, limit_bytes: int, free_bytes: int) -> None:
        """Open the folder, which is created if needed, and clean up after a process that was killed.

        Args:
            folder: the folder.
            limit_bytes: most bytes that its photos and records may take.
            free_bytes: bytes of the disk that stay free.

        Raises:
            InputError: another process uses the folder, or it cannot be written to.
        """
        self.folder, self._limit_bytes, self._free_bytes = folder, limit_bytes, free_bytes
        self._lock = lock_folder(folder, _LOCK, "another process keeps photos there; give each its own folder")
        try:
            remove_leftovers(folder)
            remove_unpaired_records(folder)
            self._entries = self._listed()
        except OSError as error:
            self.close()
            raise InputError(f"{error.filename or folder}: cannot write ({error.strerror})") from None
        self._counter = 0

    def close(self) -> None:
        """Let other processes use the folder."""
        self._lock.close()

    @property
    def size_bytes(self) -> int:
        """The size of all photos with their records."""
        return sum(entry.size_bytes for entry in self._entries)

    def records(self) -> Iterator[KeptPhoto]:
        """Yield the records that can be read, the newest first."""
        for entry in reversed(self._entries):
            if record := self._record(entry.name):
                yield record

    def add(self, jpeg: bytes, record: KeptPhoto) -> Path:
        """Write a photo and its record, both or none.

        Args:
            jpeg: the photo's file.
            record: its record.

        Returns:
            The photo's path.

        Raises:
            InputError: there is no room, or they cannot be written.
        """
        size_bytes = len(jpeg) + len(record.to_bytes())
        self._make_room(size_bytes)
        name = self._new_name(record.time)
        photo = write_photo(self.folder, name, jpeg, record)
        self._entries.append(_Entry(name, size_bytes, record.label is not None))
        self._entries.sort(key=lambda entry: entry.name)  # the clock may have been set back
        return photo

    def confirm(self, name: str, label: str, by: str) -> Path:
        """Write a label into the record of a photo, and return the photo's path.

        Raises:
            InputError: there is no such photo, or the record cannot be read or written.
        """
        photo = self.folder / f"{name}.jpg"
        entry = next((entry for entry in self._entries if entry.name == name), None)
        if entry is None or not photo.exists():
            raise InputError(f"{photo}: no such photo")
        record = self._record(name)
        if record is None:
            raise InputError(f"{photo.with_suffix('.json')}: cannot be read")
        write_record(photo, replace(record, label=label, confirmed_by=by))
        entry.labelled = True
        return photo

    def _new_name(self, time: float) -> str:
        while True:
            self._counter += 1
            name = name_of(time, self._counter)
            if not (self.folder / f"{name}.jpg").exists():
                return name

    def _make_room(self, size_bytes: int) -> None:
        """Remove old photos so that a new one fits.

        Raises:
            InputError: there is no room for it.
        """
        if size_bytes > self._limit_bytes:
            raise InputError(f"{self.folder}: a photo is larger than the limit of {_size(self._limit_bytes)}")
        try:
            if shutil.disk_usage(self.folder).free - size_bytes < self._free_bytes:
                raise InputError(f"{self.folder}: less than {_size(self._free_bytes)} of the disk would stay free")
            if not self._remove_oldest(size_bytes):
                self._entries = self._listed()  # photos may have been collected and removed
                if not self._remove_oldest(size_bytes):
                    raise InputError(
                        f"{self.folder}: has reached its limit of {_size(self._limit_bytes)}, and all photos in it "
                        "are labelled; collect them with --remove, or raise the limit"
                    )
        except OSError as error:
            raise InputError(f"{error.filename or self.folder}: {error.strerror}") from None

    def _remove_oldest(self, size_bytes: int) -> bool:
        """Remove unlabelled photos, the oldest first, until there is room; return whether there is."""
        excess = self.size_bytes + size_bytes - self._limit_bytes
        for entry in [entry for entry in self._entries if not entry.labelled]:
            if excess <= 0:
                break
            photo = self.folder / f"{entry.name}.jpg"
            photo.unlink(missing_ok=True)  # first: the next start removes a record without a photo
            photo.with_suffix(".json").unlink(missing_ok=True)
            self._entries.remove(entry)
            excess -= entry.size_bytes
        return excess <= 0

    def _listed(self) -> list[_Entry]:
        return [_Entry(name, size_bytes, self._is_labelled(name)) for name, size_bytes in kept_photos(self.folder)]

    def _is_labelled(self, name: str) -> bool:
        record = self._record(name)
        return record is None or record.label is not None  # one that cannot be read may have a label

    def _record(self, name: str) -> KeptPhoto | None:
        try:
            return KeptPhoto.from_bytes((self.folder / f"{name}.json").read_bytes())
        except (OSError, ValueError):
            return None


def _size(size_bytes: int) -> str:
    return f"{size_bytes / 1e9:g} GB" if size_bytes >= 1e9 else f"{size_bytes / 1e6:g} MB"
