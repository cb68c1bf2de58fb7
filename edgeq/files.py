"""Writing files so that nothing is ever half written, and naming contents by their digest."""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from edgeq.errors import InputError

__all__ = ["member_info", "replacing", "sha256_of_file", "sha256_of_folder", "shipped", "write_text"]

_EARLIEST_TIME = (1980, 1, 1, 0, 0, 0)  # that a zip can hold


@contextlib.contextmanager
def replacing(targets: Sequence[Path]) -> Iterator[list[Path]]:
    """Replace files all together or not at all.

    Gives a temporary path beside each target (hidden, as its name starts with a dot). When the block ends
    well they take the targets' places; when it raises, they vanish and the targets stay as they were.

    Raises:
        InputError: the folder cannot be made or written to.
    """
    parts = [target.with_name(f".{target.name}.{os.getpid()}.part") for target in targets]
    try:
        for target in targets:
            target.parent.mkdir(parents=True, exist_ok=True)
        yield parts
        for part, target in zip(parts, targets, strict=True):
            part.stat()
            if target.is_dir():
                raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(target))
        for part, target in zip(parts, targets, strict=True):
            part.replace(target)
    except OSError as error:
        failed = str(error.filename or targets[0])
        name = next((str(target) for part, target in zip(parts, targets, strict=True) if str(part) == failed), failed)
        raise InputError(f"{name}: cannot write ({error.strerror or error})") from None
    finally:
        for part in parts:
            with contextlib.suppress(OSError):
                part.unlink(missing_ok=True)


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
