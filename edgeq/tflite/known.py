"""Remember which model files passed the checks, so that they are not checked again.

Each result is an empty file in the user's cache folder, named by a digest of what passed: which check, which version of
it, and which file. A file is recognized by its device, inode, size and times, as in git's index, or by the digest of
its content. If the folder cannot be used, nothing is remembered, and everything is checked each time.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import time
from functools import cache
from pathlib import Path
from typing import NamedTuple

__all__ = ["CHECKED", "Identity", "KnownFiles", "known_files"]

CHECKED = "structure 1"
"""Name and version of the check of a file's tables. A new version forgets what older versions let pass."""

_MOST_ENTRIES = 4000
_SETTLED_NS = 2_000_000_000
"""A file that changed less than this time ago is not recognized by its times, which could stay the same if it changed
again. The coarsest file system, FAT, counts in steps of 2 seconds."""


class Identity(NamedTuple):
    """Where a file is, its size, and when it was changed: what `os.stat` says."""

    device: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class KnownFiles:
    """Results of checks, in this process and in a folder.

    A check is any text; results of one check say nothing about another.
    """

    def __init__(self, folder: Path | None) -> None:
        """Use a folder, which is created with the first entry; None to remember nothing beyond this process."""
        self._folder, self._found = folder, set[str]()

    def has(self, check: str, file: Identity | str) -> bool:
        """Return whether a file passed a check.

        Args:
            check: the name of the check.
            file: the file's identity, or the SHA-256 digest of its content.
        """
        name = self._name(check, file)
        if name in self._found:
            return True
        folder = self._usable_folder()
        if folder is None or not os.path.lexists(os.path.join(folder, name)):  # noqa: PTH118 (on every start)
            return False
        self._found.add(name)
        return True

    def add(self, check: str, file: Identity | str, lasting: bool = True) -> None:
        """Remember that a file passed a check. A file that was changed just now is remembered in this process only.

        Args:
            check: the name of the check.
            file: the file's identity, or the SHA-256 digest of its content.
            lasting: False to remember it in this process only.
        """
        name = self._name(check, file)
        self._found.add(name)
        newest = max(file.mtime_ns, file.ctime_ns) if isinstance(file, Identity) else 0
        if not lasting or self._folder is None or time.time_ns() - newest < _SETTLED_NS:
            return
        with contextlib.suppress(OSError):  # a missing or read-only home: check again next time
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._usable_folder() is not None:
                self._make_room()
                os.close(os.open(self._folder / name, os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o600))

    def _usable_folder(self) -> Path | None:
        """Return the folder, if no other user can write to it, and so decide what passes."""
        if self._folder is None:
            return None
        try:
            found = os.lstat(self._folder)
        except OSError:
            return None
        private = stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and not found.st_mode & 0o022
        return self._folder if private else None

    def _make_room(self) -> None:
        """Delete the older half of the entries if there are too many."""
        assert self._folder is not None
        names = os.listdir(self._folder)  # noqa: PTH208
        if len(names) < _MOST_ENTRIES:
            return
        ages = []
        for name in names:
            with contextlib.suppress(OSError):  # another process deletes, too
                ages.append((os.lstat(self._folder / name).st_mtime_ns, name))
        for _, name in sorted(ages)[: _MOST_ENTRIES // 2]:
            with contextlib.suppress(OSError):
                (self._folder / name).unlink()

    @staticmethod
    def _name(check: str, file: Identity | str) -> str:
        what = file if isinstance(file, str) else " ".join(map(str, file))
        where = f"{os.uname().nodename} {os.uname().machine}"  # a home may be shared by several machines
        return hashlib.sha256(f"{check}\n{where}\n{what}".encode()).hexdigest()[:40]


@cache
def known_files() -> KnownFiles:
    """Return the results of checks of this user, on this machine."""
    home = os.environ.get("XDG_CACHE_HOME") or ""
    try:
        base = Path(home) if os.path.isabs(home) else Path.home() / ".cache"  # noqa: PTH117 (as the XDG rules say)
    except RuntimeError:  # no home
        return KnownFiles(None)
    return KnownFiles(base / "edgeq" / "models")
