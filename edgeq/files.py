"""Write files and folders atomically, and compute digests of their contents."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import hashlib
import os
import shutil
import stat
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import InputError

__all__ = [
    "NO_ROOM",
    "member_info",
    "remove_leftovers",
    "replacing",
    "sha256_of_file",
    "sha256_of_folder",
    "shipped",
    "write_text",
]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota and a file above the size limit."""

_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store
_WORK = ".edgeq-"  # prefix of the hidden work folders
_NEW, _OLD, _LOCK = "new", "old", "lock"  # in a work folder: new files, files moved away, lock file
_own: set[Path] = set()  # work folders of this process


@contextlib.contextmanager
def replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Replace several files and folders, all or none.

    Yields one path per target, in a hidden work folder beside the target. The ``with`` block must create a file or
    folder at each of these paths. If the block succeeds, they replace the targets. If it raises, they are removed and
    the targets stay unchanged. If a target is a link to a folder, the linked folder is replaced.

    A killed process leaves its work folder behind. The next call for a target in the same folder removes it.

    Args:
        targets: the files and folders to replace or create.

    Raises:
        InputError: a target is the current folder, or its parent folder cannot be created or written to, or the disk
            is full.
        OSError: the block raised it for a file other than the new ones, for example one that it reads.
    """
    places = [target.resolve() if target.is_dir() else target for target in targets]
    work: dict[Path, Path] = {}
    with contextlib.ExitStack() as cleanup:
        for target, place in zip(targets, places, strict=True):
            try:
                if place == Path.cwd():
                    raise InputError(f"{target}: is the current folder; name a folder inside it")
                if place.parent not in work:
                    place.parent.mkdir(parents=True, exist_ok=True)
                    work[place.parent] = cleanup.enter_context(_work_folder(place.parent))
            except OSError as error:
                culprit = target if _WORK in str(error.filename) else error.filename or target
                raise _cannot_write(culprit, error) from None
        moves = [_Move(target, place, work[place.parent]) for target, place in zip(targets, places, strict=True)]
        try:
            yield [move.new for move in moves]
        except OSError as error:
            named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name]
            for move in moves:
                if any(path.is_relative_to(move.new) for path in named):
                    raise _cannot_write(move.target, error) from None
            if not named and error.errno in NO_ROOM:  # an error from writing to an open file has no file name
                raise _cannot_write(targets[0].parent, error) from None
            raise
        _make_all(moves)


def remove_leftovers(folder: Path) -> None:
    """Clean up after a killed process: put back what `replacing` had moved away, and remove its work folder.

    A file lock (``flock``) shows whether the process is alive, because it is released when the process ends. Unlike
    process IDs, locks are not reused, and they work across containers and machines that share a disk. If the file
    system does not support locks, nothing is removed.
    """
    for work in folder.glob(f"{_WORK}*.part"):
        if work in _own:  # over NFS, the process that holds a lock can acquire it again
            continue
        with contextlib.suppress(OSError):  # the folder's process is alive, or it belongs to another user
            with (work / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(work)


@dataclass(frozen=True)
class _Move:
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
        return self.work / _NEW / self.place.name

    @property
    def old(self) -> Path:
        return self.work / _OLD / self.place.name

    def check(self) -> None:
        """Raise an `OSError` if nothing was created, or if a folder would replace a file or a file a folder."""
        is_folder = stat.S_ISDIR(self.new.stat().st_mode)
        if self.place.exists() and self.place.is_dir() != is_folder:
            number = errno.ENOTDIR if is_folder else errno.EISDIR
            raise OSError(number, os.strerror(number))

    def make(self) -> None:
        """Replace the target, and keep its old content in the work folder."""
        if self.place.is_dir():  # Python has no call that exchanges two folders atomically
            self.place.rename(self.old)
        elif self.place.exists():
            try:
                os.link(self.place, self.old)
            except OSError:  # FAT has no hard links
                shutil.copy2(self.place, self.old)
        self.new.replace(self.place)

    def undo(self) -> None:
        """Undo `make`, even if it failed halfway."""
        if not self.new.exists():
            self.place.rename(self.new)
        if self.old.exists():
            self.old.replace(self.place)


def _make_all(moves: Sequence[_Move]) -> None:
    """Replace all targets, or none if one cannot be replaced.

    Raises:
        InputError: a target cannot be replaced.
    """
    begun: list[_Move] = []
    try:
        for move in moves:
            move.check()
        for move in moves:
            begun.append(move)
            move.make()
    except BaseException as error:  # including KeyboardInterrupt
        for made in reversed(begun):
            with contextlib.suppress(OSError):
                made.undo()
        if not isinstance(error, OSError):
            raise
        lost = [f"; what was there is now {made.old}" for made in begun if made.old.is_dir()]
        raise _cannot_write(move.target, error, "".join(lost)) from None


@contextlib.contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """Create a work folder, with a lock that tells other processes that this one is alive."""
    remove_leftovers(parent)
    work = parent / f"{_WORK}{os.urandom(6).hex()}.part"
    _own.add(work)
    try:
        work.mkdir(mode=0o700)
        for name in (_NEW, _OLD):
            (work / name).mkdir()
        with (work / "unlocked").open("w") as lock:
            with contextlib.suppress(OSError):  # if locks are not supported, no other process removes the folder
                fcntl.flock(lock, fcntl.LOCK_EX)
                (work / "unlocked").rename(work / _LOCK)
            yield work
    finally:
        with contextlib.suppress(OSError):
            _clear(work)
        _own.discard(work)


def _clear(work: Path) -> None:
    """Put back what was moved away but not replaced, and remove the work folder.

    Raises:
        OSError: something cannot be put back; the work folder stays.
    """
    for old in (work / _OLD).glob("*"):
        if (work / _NEW / old.name).exists() and (old.is_dir() or not (work.parent / old.name).exists()):
            old.rename(work.parent / old.name)
    shutil.rmtree(work, ignore_errors=True)


def _cannot_write(name: object, error: OSError, more: str = "") -> InputError:
    return InputError(f"{name}: cannot write ({error.strerror or error}){more}")


def write_text(path: Path, text: str) -> None:
    """Write a text file as UTF-8, atomically.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing([path]) as (part,):
        # File names that are not UTF-8 contain lone surrogates, which cannot be encoded.
        part.write_text(text, encoding="utf-8", errors="replace")


def sha256_of_file(path: str | Path) -> str:
    """Return the SHA-256 digest of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_folder(path: str | Path) -> str:
    """Return the SHA-256 digest of the names and contents of all files in a folder and below it, in hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def shipped(folder: str) -> Path:
    """Return the path of a folder of data that comes with edgeq.

    In an installed package the folder is part of the package; in a checkout it is at the top level.

    Args:
        folder: ``calibration`` or ``models``.
    """
    package = Path(__file__).resolve().parent
    installed = package / "shipped" / folder
    return installed if installed.is_dir() else package.parent / folder


def member_info(name: str) -> zipfile.ZipInfo:
    """Return a zip member's header with a fixed time and system, so that zip files are reproducible."""
    info = zipfile.ZipInfo(name, _EARLIEST_TIME)
    info.create_system = 3  # Unix, on every system
    info.external_attr = 0o644 << 16
    return info
