"""Where kept photos are collected from: a folder on this machine, or one on a board."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from edgeq.closing import Closing
from edgeq.device.photos import list_photos, read_files, remove_photos
from edgeq.errors import DeviceError, InputError, one_line
from edgeq.photo_folders import PHOTO_NAME
from edgeq.progress import Progress, no_progress

__all__ = ["PhotoSource", "open_photos"]

# user@host:folder, user@host:port:folder, [IPv6 address]:folder
_REMOTE = re.compile(r"(?P<host>(?:[^@/:]+@)?(?:\[[^\]/]+\]|[^@/:\[\]]+)(?::\d{1,5}(?=:))?):(?P<folder>.+)")


class PhotoSource(Protocol):
    """A folder of kept photos; a ``with`` block closes it."""

    def __enter__(self) -> PhotoSource: ...

    def __exit__(self, *error: object) -> None: ...

    def digests(self) -> Mapping[str, str]:
        """Return the SHA-256 digest of the record of each photo, by the photo's name without a suffix."""

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        """Yield the name and the content of each file; None for one that is gone."""

    def remove(self, digests: Mapping[str, str]) -> int:
        """Remove photos whose records still have these digests; return how many."""


def open_photos(source: str | Path, progress: Progress = no_progress) -> PhotoSource:
    """Open a folder of kept photos.

    Args:
        source: a folder, or ``[user@]host[:port]:folder`` for one on a board. A relative folder there is below the
            user's home. What exists on this machine is taken for a folder.
        progress: called while the board is connected to.

    Raises:
        InputError: there is no such folder on this machine, or the address is malformed.
        DeviceError: the board cannot be reached.
    """
    found = None if isinstance(source, Path) or Path(source).exists() else _REMOTE.fullmatch(source)
    return _OnDevice(found["host"], found["folder"], progress) if found else _Local(str(source))


class _Local(Closing):
    def __init__(self, folder: str) -> None:
        self._folder = folder

    def close(self) -> None:
        """Nothing is open."""

    def digests(self) -> Mapping[str, str]:
        return list_photos(self._folder)

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        return _in_batches(names, lambda rest: read_files(self._folder, rest))

    def remove(self, digests: Mapping[str, str]) -> int:
        return remove_photos(self._folder, digests)


class _OnDevice(Closing):
    def __init__(self, host: str, folder: str, progress: Progress) -> None:
        from edgeq.device.device import Device  # imported here: a watching board needs none

        self._folder, self._device = folder, Device(host, progress)

    def close(self) -> None:
        self._device.close()

    def digests(self) -> Mapping[str, str]:
        found = self._device.ask("list_photos", folder=self._folder)[0].get("photos")
        if not isinstance(found, dict) or not all(PHOTO_NAME.fullmatch(name) for name in found):
            raise DeviceError(f"{self._device.address}: answers what edgeq does not understand")
        return {name: str(digest) for name, digest in found.items()}

    def read(self, names: Sequence[str]) -> Iterator[tuple[str, bytes | None]]:
        return _in_batches(names, self._read)

    def remove(self, digests: Mapping[str, str]) -> int:
        return int(self._device.ask("remove_photos", folder=self._folder, digests=dict(digests))[0]["removed"])

    def _read(self, names: Sequence[str]) -> tuple[list[int], bytes]:
        answer, content = self._device.ask("read_files", folder=self._folder, names=list(names))
        sizes = answer.get("sizes")
        whole = isinstance(sizes, list) and all(isinstance(size, int) and size >= -1 for size in sizes)
        if not whole or not 0 < len(sizes) <= len(names) or sum(max(0, size) for size in sizes) != len(content):
            raise DeviceError(f"{self._device.address}: answers what edgeq does not understand")
        return sizes, content


class _Read(Protocol):
    def __call__(self, names: Sequence[str], /) -> tuple[list[int], bytes]: ...


_MOST_NAMES = 500  # per request


def _in_batches(names: Sequence[str], read: _Read) -> Iterator[tuple[str, bytes | None]]:
    done = 0
    while done < len(names):
        try:
            sizes, content = read(names[done : done + _MOST_NAMES])
        except OSError as error:
            raise InputError(f"{error.filename}: cannot be read ({one_line(error.strerror or error)})") from None
        offset = 0
        for size in sizes:
            yield names[done], content[offset : offset + size] if size >= 0 else None
            offset += max(0, size)
            done += 1
