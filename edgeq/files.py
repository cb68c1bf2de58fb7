"""Writing files and folders so that nothing is ever half written, and naming contents by their digest."""

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
"""Numbers of the errors that a full disk, a used up quota and a limit to the size of files give."""

_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # that a zip can hold
_WORK = ".edgeq-"  # how the names of the hidden folders begin
_NEW, _OLD, _LOCK = "new", "old", "lock"  # what is in them
_own: set[Path] = set()  # those of this process


@contextlib.contextmanager
def replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Replace files and folders all together or not at all.

    Gives a path for each target, in a hidden folder beside it, where the block makes a file or a folder. When the
    block ends well, these take the targets' places; when it raises, they vanish and the targets stay as they were.
    Where a target is a link to a folder, what it links to is replaced.

    A killed process leaves its hidden folder behind; the next one that replaces something beside it removes it.

    Raises:
        InputError: a target is the current folder, or its folder cannot be made or written to, or has no room. An
            `OSError` of the block that is not about what it makes, such as one from reading another file, is passed
            on as it is.
    """
    places = [target.resolve() if target.is_dir() else target for target in targets]
    work: dict[Path, Path] = {}
    with contextlib.ExitStack() as cleanup:
        for target, place in zip(targets, places, strict=True):
            try:
                if place == Path.cwd():
                    raise InputError(f"{target}: is the current folder; give one in it")
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
    """Remove what `replacing` left in a folder when its process was killed; first put back what it had just moved away.

    Whether the process lives is known by a lock on a file (``flock``), which ends with its process. So neither
    reused process numbers nor processes of other containers or machines on a shared disk are mistaken. Nothing is
    removed where the file system has no locks.
    """
    for work in folder.glob(f"{_WORK}*.part"):
        if work in _own:  # over NFS, a lock counts as free to the process that holds it
            continue
        with contextlib.suppress(OSError):  # it lives, or others may not touch it, or removed it in the meantime
            with (work / _LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            _clear(work)


@dataclass(frozen=True)
class _Move:
    """A file or folder that is being made, and where it goes.

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
    """Put all in place, or none if that fails.

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
    """A hidden folder that others can tell from a dead process's."""
    remove_leftovers(parent)
    work = parent / f"{_WORK}{os.urandom(6).hex()}.part"
    _own.add(work)
    try:
        work.mkdir(mode=0o700)
        for name in (_NEW, _OLD):
            (work / name).mkdir()
        with (work / "unlocked").open("w") as lock:
            with contextlib.suppress(OSError):  # where there are no locks, nobody takes it for dead
                fcntl.flock(lock, fcntl.LOCK_EX)
                (work / "unlocked").rename(work / _LOCK)
            yield work
    finally:
        with contextlib.suppress(OSError):
            _clear(work)
        _own.discard(work)


def _clear(work: Path) -> None:
    """Remove a work folder, and put back first what was moved away for something that did not take its place.

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
    """Write a text file as UTF-8, whole or not at all.

    Raises:
        InputError: it cannot be written.
    """
    with replacing([path]) as (part,):
        part.write_text(text, encoding="utf-8")


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
    """A folder of what comes with edgeq: ``calibration`` or ``models``.

    In an installed package it lies within it; in a checkout it is the top level's folder of that name.
    """
    package = Path(__file__).resolve().parent
    installed = package / "shipped" / folder
    return installed if installed.is_dir() else package.parent / folder


def member_info(name: str) -> zipfile.ZipInfo:
    """The entry of a zip member, without time and place: the same contents give the same bytes."""
    info = zipfile.ZipInfo(name, _EARLIEST_TIME)
    info.create_system = 3  # Unix, wherever this runs
    info.external_attr = 0o644 << 16
    return info
