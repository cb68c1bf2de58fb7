"""Write files and folders atomically, and compute digests of their contents."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeq.errors import InputError
from edgeq.work_folders import Move, commit, is_in_work_folder, revoke, work_folder

__all__ = [
    "NO_ROOM",
    "member_info",
    "replacing",
    "sha256_of_file",
    "sha256_of_folder",
    "shipped",
    "temporary_folder",
    "write_text",
]

NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Error numbers of a full disk, an exhausted quota and a file above the size limit."""

_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip file can store


@contextlib.contextmanager
def replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Replace several files and folders, all or none.

    Yields one path per target, in a hidden work folder beside the target. The ``with`` block must create a file or
    folder at each of these paths. If the block succeeds, they replace the targets. If it raises, they are removed and
    the targets stay unchanged. If a target is a link to a folder, the linked folder is replaced.

    A killed process leaves its work folder behind. The next call for a target in the same folder removes it. If the
    process was killed while the targets were being replaced, that call replaces the others first: all or none.

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
                    work[place.parent] = cleanup.enter_context(work_folder(place.parent))
            except OSError as error:
                culprit = target if is_in_work_folder(str(error.filename)) else error.filename or target
                raise _cannot_write(culprit, error) from None
        moves = [Move(target, place, work[place.parent]) for target, place in zip(targets, places, strict=True)]
        try:
            yield [move.new for move in moves]
        except OSError as error:
            named = [Path(os.fsdecode(name)) for name in (error.filename, error.filename2) if name]
            for part in ("new", "work"):  # what is beside the new files belongs to all of them
                for move in moves:
                    if any(path.is_relative_to(getattr(move, part)) for path in named):
                        raise _cannot_write(move.target, error) from None
            if not named and error.errno in NO_ROOM:  # an error from writing to an open file has no file name
                raise _cannot_write(targets[0].parent, error) from None
            raise
        _make_all(moves)


def _make_all(moves: Sequence[Move]) -> None:
    """Replace all targets, or none if one cannot be replaced.

    Raises:
        InputError: a target cannot be replaced.
    """
    begun: list[Move] = []
    try:
        for move in moves:
            move.check()
        commit(moves)
        for move in moves:
            begun.append(move)
            move.make()
    except BaseException as error:  # including KeyboardInterrupt
        for made in reversed(begun):
            with contextlib.suppress(OSError):
                made.undo()
        revoke(moves)
        if not isinstance(error, OSError):
            raise
        lost = [f"; what was there is now {made.old}" for made in begun if made.old.is_dir()]
        raise _cannot_write(move.target, error, "".join(lost)) from None


@contextlib.contextmanager
def temporary_folder() -> Iterator[Path]:
    """Create a folder in the system's temporary folder, and remove it at the end.

    What a killed process leaves behind is removed by the next call.

    Raises:
        InputError: the temporary folder cannot be written to.
    """
    import tempfile  # imported here: start-up time matters

    with contextlib.ExitStack() as cleanup:
        try:
            parent = Path(tempfile.gettempdir())
            work = cleanup.enter_context(work_folder(parent))
        except OSError as error:
            raise InputError(
                f"no temporary folder can be made ({error.strerror or error}); set TMPDIR to a folder with free space"
            ) from None
        yield work / "new"


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
