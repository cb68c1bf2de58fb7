"""Write files and folders atomically, and identify contents by their digest."""

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

_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # that a zip can hold
_WORK = ".edgeq-"  # how the names of the hidden folders begin
_NEW, _OLD, _LOCK = "new", "old", "lock"  # what is in them
_own: set[Path] = set()  # those of this process


@contextlib.contextmanager
def replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Replace several files and folders, all or none.

    Yields one path per target, in a hidden folder beside it; the block creates a file or folder there. If the block
    succeeds, these replace the targets. If it raises, they are removed and the targets stay as they were. If a target
    is a link to a folder, the folder it links to is replaced.

    A killed process leaves its hidden folder behind; the next one that replaces something beside it removes it.

    Raises:
        InputError: a target is the current folder, or its folder cannot be created or written to, or has no room.
        OSError: the block raised it for another file than the new ones, for instance one that it reads.
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
            if not named and error.errno in NO_ROOM:  # writing to an open file names none
                raise _cannot_write(targets[0].parent, error) from None
            raise
        _make_all(moves)


def remove_leftovers(folder: Path) -> None:
    """Clean up after a killed process: put back what `replacing` had moved away, and remove its hidden folder.

    A lock on a file (``flock``), which ends with its process, shows whether the process is alive. Unlike process
    numbers, locks are not reused and work across containers and machines that share a disk. If the file system has no
    locks, nothing is removed.
    """
    for work in folder.glob(f"{_WORK}*.part"):
        if work in _own:  # over NFS, a lock counts as free to the process that holds it
            continue
        with contextlib.suppress(OSError):  # its process is alive, or it belongs to another user
            with (work / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(work)


@dataclass(frozen=True)
class _Move:
    """A new file or folder, and the target that it replaces.

    Attributes:
        target: as the caller names it.
        place: the same, with links to folders followed.
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
        """Raise an `OSError` if nothing was made, or if it is a folder and the target a file, or the other way."""
        is_folder = stat.S_ISDIR(self.new.stat().st_mode)
        if self.place.exists() and self.place.is_dir() != is_folder:
            number = errno.ENOTDIR if is_folder else errno.EISDIR
            raise OSError(number, os.strerror(number))

    def make(self) -> None:
        """Put it in its place, and keep what was there."""
        if self.place.is_dir():  # no call of Python's exchanges two folders at once
            self.place.rename(self.old)
        elif self.place.exists():
            try:
                os.link(self.place, self.old)
            except OSError:  # FAT has no links
                shutil.copy2(self.place, self.old)
        self.new.replace(self.place)

    def undo(self) -> None:
        """Undo what `make` has done, however far it came."""
        if not self.new.exists():
            self.place.rename(self.new)
        if self.old.exists():
            self.old.replace(self.place)


def _make_all(moves: Sequence[_Move]) -> None:
    """Move all to their places, or none if that fails.

    Raises:
        InputError: it failed.
    """
    begun: list[_Move] = []
    try:
        for move in moves:
            move.check()
        for move in moves:
            begun.append(move)
            move.make()
    except BaseException as error:  # a signal's, too
        for made in reversed(begun):
            with contextlib.suppress(OSError):
                made.undo()
        if not isinstance(error, OSError):
            raise
        lost = [f"; what was there is now {made.old}" for made in begun if made.old.is_dir()]
        raise _cannot_write(move.target, error, "".join(lost)) from None


@contextlib.contextmanager
def _work_folder(parent: Path) -> Iterator[Path]:
    """Create a hidden folder; its lock tells other processes that this one is alive."""
    remove_leftovers(parent)
    work = parent / f"{_WORK}{os.urandom(6).hex()}.part"
    _own.add(work)
    try:
        work.mkdir(mode=0o700)
        for name in (_NEW, _OLD):
            (work / name).mkdir()
        with (work / "unlocked").open("w") as lock:
            with contextlib.suppress(OSError):  # without locks, no other process removes the folder
                fcntl.flock(lock, fcntl.LOCK_EX)
                (work / "unlocked").rename(work / _LOCK)
            yield work
    finally:
        with contextlib.suppress(OSError):
            _clear(work)
        _own.discard(work)


def _clear(work: Path) -> None:
    """Remove a work folder, after putting back what was moved away but not replaced.

    Raises:
        OSError: something cannot be put back; the folder stays.
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
        InputError: it cannot be written.
    """
    with replacing([path]) as (part,):
        # File names that are not UTF-8 come as lone surrogates, which no file can hold.
        part.write_text(text, encoding="utf-8", errors="replace")


def sha256_of_file(path: str | Path) -> str:
    """SHA-256 of a file's content, in hexadecimal."""
    digest = hashlib.sha256()
    with Path(path).open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def sha256_of_folder(path: str | Path) -> str:
    """SHA-256 over the names and contents of all files in a folder and below it, in hexadecimal."""
    digest = hashlib.sha256()
    for file in sorted(p for p in Path(path).rglob("*") if p.is_file()):
        digest.update(f"{file.relative_to(path).as_posix()}\0{sha256_of_file(file)}\n".encode())
    return digest.hexdigest()


def shipped(folder: str) -> Path:
    """Return a folder that comes with edgeq: ``calibration`` or ``models``.

    It is part of an installed package; in a checkout it is the top-level folder of that name.
    """
    package = Path(__file__).resolve().parent
    installed = package / "shipped" / folder
    return installed if installed.is_dir() else package.parent / folder


def member_info(name: str) -> zipfile.ZipInfo:
    """Return the header of a zip member, without time and system: the same contents give the same bytes."""
    info = zipfile.ZipInfo(name, _EARLIEST_TIME)
    info.create_system = 3  # Unix, wherever this runs
    info.external_attr = 0o644 << 16
    return info
