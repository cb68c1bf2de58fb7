"""Hidden work folders, in which new files are made before they replace older ones all together.

A work folder lies beside the files that it is for, so that moving them is atomic. It contains:

- ``new``: new files and folders. Once all are complete, it is renamed to ``ready``.
- ``old``: what they replace, until all are replaced.
- ``lock``: a file that the process locks, so that others know that it is alive. It lists the inodes in ``ready``.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import json
import os
import shutil
import stat
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from edgeq.errors import InputError

__all__ = ["Move", "commit", "is_in_work_folder", "lock_folder", "remove_leftovers", "revoke", "work_folder"]

_WORK = ".edgeq-"  # prefix of the work folders
_NEW, _READY, _OLD = "new", "ready", "old"
_LOCK, _UNLOCKED = "lock", "unlocked"  # the second as long as it is not locked, or if it cannot be
_ATTEMPTS, _PAUSE_S = 250, 0.02  # to lock the parent folder, which others lock for milliseconds
_own: set[Path] = set()  # work folders of this process


def is_in_work_folder(path: str) -> bool:
    """Return whether a path is that of a work folder or below it, which means nothing to a user."""
    return _WORK in path


@contextlib.contextmanager
def work_folder(parent: Path) -> Iterator[Path]:
    """Create a work folder, with a lock that tells other processes that this one is alive."""
    remove_leftovers(parent)
    work = parent / f"{_WORK}{os.urandom(6).hex()}.part"
    _own.add(work)
    try:
        with contextlib.ExitStack() as cleanup:
            with _alone_in(parent):
                work.mkdir(mode=0o700)
                lock = cleanup.enter_context((work / _UNLOCKED).open("w"))
                with contextlib.suppress(OSError):  # if locks are not supported, no other process removes the folder
                    fcntl.flock(lock, fcntl.LOCK_EX)
                    (work / _UNLOCKED).rename(work / _LOCK)
            for name in (_NEW, _OLD):
                (work / name).mkdir()
            yield work
    finally:
        with contextlib.suppress(OSError):
            _clear(work)
        _own.discard(work)


def remove_leftovers(folder: Path) -> None:
    """Clean up after killed processes: finish what `replacing` had begun to replace, and remove its work folder.

    A file lock (``flock``) shows whether the process is alive, because it is released when the process ends. Unlike
    process IDs, locks are not reused, and they work across containers and machines that share a disk. If the file
    system does not support locks, nothing is removed.
    """
    names = os.listdir(folder) if folder.is_dir() else []  # noqa: PTH208 (pathlib is slow for thousands of files)
    if not any(name.startswith(_WORK) for name in names):
        return
    with _alone_in(folder) as alone:
        for work in folder.glob(f"{_WORK}*.part"):
            if work in _own:  # over NFS, the process that holds a lock can acquire it again
                continue
            with contextlib.suppress(OSError):  # the folder's process is alive, or it belongs to another user
                if not alone and not (work / _LOCK).exists():  # its process may be about to lock it
                    continue
                if (lock_file := _lock_file(work)).exists():  # else the process was killed before it made one
                    with lock_file.open("r+") as lock:
                        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _clear(work)


def _clear(work: Path) -> None:
    """Finish a replacement that had begun, put back what was moved away but not replaced, and remove the work folder.

    Raises:
        OSError: something cannot be replaced or put back; the work folder stays.
    """
    if any((work / _READY).glob("*")) and (lock := _lock_file(work)).exists():
        for name, inode in json.loads(lock.read_text(encoding="utf-8")).items():
            new, place = work / _READY / name, work.parent / name
            if not new.exists() or new.stat().st_ino != inode:  # it is in its place
                continue
            if place.exists() and place.stat().st_mtime_ns > new.stat().st_mtime_ns:  # written since by another
                continue
            Move(place, place, work).make()
    for old in (work / _OLD).glob("*"):
        if (work / _NEW / old.name).exists() and (old.is_dir() or not (work.parent / old.name).exists()):
            old.rename(work.parent / old.name)
    shutil.rmtree(work, ignore_errors=True)


@dataclass(frozen=True)
class Move:
    """A new file or folder, and the target that it replaces.

    Attributes:
        target: the target as the caller named it.
        place: the target with links to folders resolved.
        work: the work folder.
    """

    target: Path
    place: Path
    work: Path

    @property
    def new(self) -> Path:
        """Path of the new file while it is being made."""
        return self.work / _NEW / self.place.name

    @property
    def ready(self) -> Path:
        """Path of the new file once it is complete."""
        return self.work / _READY / self.place.name

    @property
    def old(self) -> Path:
        """Path that the old file moves to."""
        return self.work / _OLD / self.place.name

    def check(self) -> None:
        """Raise an `OSError` if nothing was created, or if a folder would replace a file or a file a folder."""
        is_folder = stat.S_ISDIR(self.new.stat().st_mode)
        if self.place.exists() and self.place.is_dir() != is_folder:
            number = errno.ENOTDIR if is_folder else errno.EISDIR
            raise OSError(number, os.strerror(number))

    def make(self) -> None:
        """Replace the target, and keep its old content in the work folder."""
        if self.place.is_dir():
            if _exchange(self.ready, self.place):
                try:
                    self.ready.rename(self.old)
                except OSError:
                    _exchange(self.ready, self.place)
                    raise
                return
            self.place.rename(self.old)
        elif self.place.exists() and not self.old.exists():  # else a process was killed after this
            try:
                os.link(self.place, self.old)
            except OSError:  # FAT has no hard links
                shutil.copy2(self.place, self.old)
        self.ready.replace(self.place)

    def undo(self) -> None:
        """Undo `make`, even if it failed halfway."""
        if not self.ready.exists():
            self.place.rename(self.ready)
        if self.old.exists():
            self.old.replace(self.place)


def commit(moves: Sequence[Move]) -> None:
    """Mark the new files as complete: from now on, cleaning up after this process finishes the replacement.

    The lock file lists their inodes: a folder changes places with the old one, which then has its name.
    """
    for work in dict.fromkeys(move.work for move in moves):
        inodes = {move.new.name: move.new.stat().st_ino for move in moves if move.work == work}
        _lock_file(work).write_text(json.dumps(inodes), encoding="utf-8")
        (work / _NEW).rename(work / _READY)


def revoke(moves: Sequence[Move]) -> None:
    """Undo `commit`, even if it failed halfway."""
    for work in dict.fromkeys(move.work for move in moves):
        with contextlib.suppress(OSError):
            (work / _READY).rename(work / _NEW)


def _lock_file(work: Path) -> Path:
    locked = work / _LOCK
    return locked if locked.exists() else work / _UNLOCKED


def _exchange(one: Path, other: Path) -> bool:
    """Exchange two folders atomically; return False if the system cannot."""
    import ctypes  # imported here: only the replacement of a folder needs it

    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2  # glibc 2.28; Python has no such call
    except (OSError, AttributeError):
        return False
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return bool(renameat2(here, os.fsencode(one), here, os.fsencode(other), exchange) == 0)


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[bool]:
    """Keep other processes from making or removing work folders in a folder.

    Yields whether that is possible: not if the file system cannot lock folders, as NFS, or if another program has
    locked this one for long.
    """
    with contextlib.ExitStack() as cleanup:
        alone = False
        with contextlib.suppress(OSError):
            descriptor = os.open(folder, os.O_RDONLY)
            cleanup.callback(os.close, descriptor)
            for _ in range(_ATTEMPTS):
                try:
                    fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    alone = True
                    break
                except BlockingIOError:
                    time.sleep(_PAUSE_S)
        yield alone


def lock_folder(folder: Path, name: str, busy: str) -> IO[str]:
    """Lock a folder, which is created if needed, against other processes until the lock file is closed.

    If the file system does not support locks, nothing is locked.

    Args:
        folder: the folder.
        name: name of the lock file in it.
        busy: what to say if another process has locked it.

    Returns:
        The open lock file.

    Raises:
        InputError: another process has locked it, or it cannot be created or written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = (folder / name).open("w")
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror})") from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise InputError(f"{folder}: {busy}") from None
    except OSError:  # the file system does not support locks
        pass
    return lock
