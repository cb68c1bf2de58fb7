"""Tar files of images as WebDataset writes them: ``shard-000000.tar`` with ``KEY.jpg`` and ``KEY.cls`` side by side.

A tar is read once from start to end, so it may be at a URL. The class of an image is the number in the file ``.cls``
with the same key, which is the name up to the first dot after the last slash.
"""

from __future__ import annotations

import contextlib
import fnmatch
import glob
import itertools
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path

from edgeq.comparison.pair import NamedImage
from edgeq.comparison.remote import is_url, list_files, open_file
from edgeq.errors import EdgeqError, InputError, one_line
from edgeq.images import is_image

__all__ = ["expand_tars", "names_tars", "read_from_tar", "read_tar"]

_RANGE = re.compile(r"\{(\d+)\.\.(\d+)\}")
_MOST_BYTES = 1 << 29  # of a file in a tar, which is read into memory; a sparse one can claim any size


def names_tars(data: str) -> bool:
    """Return whether a data argument names tar files: one, a pattern, or a local folder of tars without images."""
    if is_url(data) or not Path(data).is_dir():
        return data.lower().endswith(".tar")
    entries = list(Path(data).iterdir())
    return any(path.suffix == ".tar" for path in entries) and not any(p.is_dir() or is_image(p) for p in entries)


def expand_tars(data: str) -> list[str]:
    """Return the tar files that an argument names, sorted.

    Args:
        data: a tar file; a pattern with ``*``, or with a range such as ``shard-{000000..000127}.tar`` as in WebDataset;
            or a local folder of tars. Files and patterns may be URLs.

    Raises:
        InputError: there is none.
    """
    if match := _RANGE.search(data):
        if int(match[1]) > int(match[2]):
            raise InputError(f"{data}: the range {match[0]} is empty; give the lower number first")
        return sorted(itertools.chain.from_iterable(expand_tars(name) for name in _expand_range(data)))
    if "*" not in data:
        folder = not is_url(data) and Path(data).is_dir()
        return sorted(map(str, Path(data).glob("*.tar"))) if folder else [data]
    if is_url(data):
        folder_url, _, pattern = data.rpartition("/")
        names = [name for name in list_files(folder_url) if "/" not in name]
        found = [f"{folder_url}/{name}" for name in fnmatch.filter(names, pattern)]
    else:
        found = sorted(glob.glob(data))  # noqa: PTH207 (Path.glob wants a root)
    if not found:
        raise InputError(f"{data}: no tar file has such a name")
    return found


def _expand_range(pattern: str) -> Iterator[str]:
    """Replace the first range ``{000..127}`` by each of its numbers, which keep their zeros."""
    match = _RANGE.search(pattern)
    assert match
    first, last = match.groups()
    for number in range(int(first), int(last) + 1):
        yield f"{pattern[: match.start()]}{number:0{len(first)}}{pattern[match.end() :]}"


def read_tar(name: str, classes: int, folder: str | None = None) -> Iterator[NamedImage]:
    """Read the images of a tar file in its order, each with its bytes.

    Args:
        name: the tar's path or URL.
        classes: number of classes.
        folder: the folder that a relative path starts from; None for the working folder.

    Raises:
        InputError: the file does not exist or is not a whole tar, or a class is invalid.
        OSError: it cannot be read; trying again may help.
    """
    try:
        with (
            open_file(name if is_url(name) else str(Path(folder or "", name))) as stream,
            tarfile.open(fileobj=stream, mode="r|*") as tar,
        ):
            for _, group in itertools.groupby(_members(name, tar), key=lambda member: _key(member[0])):
                yield from _images(name, dict(group), classes)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except IsADirectoryError:
        raise InputError(f"{name}: is a folder, not a tar file") from None
    except (tarfile.TarError, EOFError) as error:
        raise InputError(f"{name}: not a whole tar file ({error})") from None
    except (EdgeqError, OSError):
        raise
    except Exception as error:  # of the library that a driver of fsspec uses
        if not is_url(name):
            raise
        raise OSError(f"{name}: cannot be read ({one_line(error)})") from None


def read_from_tar(name: str) -> bytes | None:
    """Return the bytes of one image of a local tar; None if there is no such tar or image.

    Args:
        name: the image's name, as `read_tar` gives it: the tar's path, a slash and the name within.
    """
    tars = (name[: slash.start()] for slash in re.finditer("/", name))
    tar = next((path for path in tars if os.path.isfile(path)), None)  # noqa: PTH113 (Path.is_file raises errors)
    if tar is None:
        return None
    with contextlib.suppress(tarfile.TarError, OSError), tarfile.open(tar, "r:") as opened:
        for member in opened:
            if f"{tar}/{member.name}" == name and member.isfile() and member.size <= _MOST_BYTES:
                content = opened.extractfile(member)
                return content.read() if content else None
    return None


def _members(name: str, tar: tarfile.TarFile) -> Iterator[tuple[str, bytes]]:
    """Yield the name and the bytes of each image and class file, in the tar's order."""
    for member in tar:
        if member.isfile() and (is_image(member.name) or member.name.endswith(".cls")):
            if member.size > _MOST_BYTES:
                raise InputError(f"{name}/{member.name}: has {member.size} bytes, which is too large for an image")
            content = tar.extractfile(member)
            assert content
            yield member.name, content.read()


def _key(member: str) -> str:
    folder, name = os.path.split(member)
    return f"{folder}/{name.partition('.')[0]}"


def _images(tar: str, group: dict[str, bytes], classes: int) -> Iterator[NamedImage]:
    """Yield the images that share a key, with the class in that key's class file, if there is one."""
    index = None
    for member, content in group.items():
        if member.endswith(".cls"):
            text = content.decode(errors="replace").strip()
            if not text.isdecimal():
                raise InputError(f"{tar}/{member}: must hold a class index, such as 281, not {text[:20]!r}")
            index = int(text)
            if index >= classes:
                raise InputError(f"{tar}/{member}: class {index}, but the models have {classes}")
    for member, content in group.items():
        if is_image(member):
            yield NamedImage(f"{tar}/{member}", index, content)
