"""The images of a comparison, in shards that can be read independently, on any machine that sees the data.

A shard is JSON data: ``{"files": [[path or URL, class], ...]}``, or ``{"tar": path or URL, "classes": number}``.
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from edgeq.comparison.dataset import LABELS_FILE, classes_of_folders, find_labels, left_out_note, rows_of_labels
from edgeq.comparison.pair import NamedImage
from edgeq.comparison.remote import identity, is_url, list_files, read_file
from edgeq.comparison.tars import expand_tars, names_tars, read_tar
from edgeq.errors import ImageError, InputError, one_line
from edgeq.images import is_image, skipped_note

__all__ = ["SHARD_IMAGES", "ImageData", "content_of", "open_images", "read_shard"]

_Entry = tuple[str, int | None]  # the path or URL of an image, and the index of its class

SHARD_IMAGES = 1000
"""Number of images in a shard of single files: enough to keep a core busy for seconds, few enough to repeat."""


class ImageData(ABC):
    """The images of a comparison.

    Attributes:
        notes: sentences on where the true classes come from and what was skipped; the first one is on the classes.
        labelled: whether true classes are known.
        total: number of images; None if it is unknown before they are read.
        shards: number of shards.
        per_shard: number of images in a shard, except in the last one; None for tars.
    """

    notes: tuple[str, ...]
    labelled: bool
    total: int | None
    shards: int
    per_shard: int | None

    @abstractmethod
    def shard(self, number: int) -> dict[str, Any]:
        """Return a shard, by its number from 0."""

    @abstractmethod
    def spread(self, count: int, skipped: set[str]) -> Iterator[NamedImage]:
        """Yield at most `count` images, spread evenly over the data; not the files in `skipped`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Return a digest that changes when the images or their classes change.

        It covers the names, the classes, and the sizes and times of local files. Of images at URLs, only tars have a
        size and a time.
        """


class _Files(ImageData):
    """Images in single files."""

    per_shard: int

    def __init__(self, images: Sequence[_Entry], notes: Sequence[str], shard_images: int) -> None:
        self._images = images
        self.per_shard = shard_images
        self.notes, self.total = tuple(notes), len(images)
        self.labelled = any(index is not None for _, index in self._images)
        self.shards = -(-len(images) // shard_images)

    def shard(self, number: int) -> dict[str, Any]:
        return {"files": self._images[number * self.per_shard : (number + 1) * self.per_shard]}

    def spread(self, count: int, skipped: set[str]) -> Iterator[NamedImage]:
        readable = [image for image in self._images if image[0] not in skipped]
        for path, index in readable[:: max(1, len(readable) // count)][:count]:
            yield NamedImage(path, index, content_of(path))

    def fingerprint(self) -> str:
        digest = hashlib.sha256()
        for path, index in self._images:
            known = path if is_url(path) else identity(path)
            digest.update(f"{known}\0{index}\n".encode(errors="surrogateescape"))
        return digest.hexdigest()


class _Tars(ImageData):
    """Images in tar files, each of which is a shard."""

    total = None
    per_shard = None

    def __init__(self, tars: Sequence[str], classes: int) -> None:
        self._tars, self._classes, self.shards = tars, classes, len(tars)
        try:
            first = next(read_tar(tars[0], classes), None)
        except OSError as error:
            raise InputError(f"{tars[0]}: cannot be read ({one_line(error)})") from None
        if first is None:
            raise InputError(f"{tars[0]}: holds no images")
        self.labelled = first.class_index is not None
        source = "true classes from the .cls files in the tars"
        self.notes = (source if self.labelled else "no true classes are known, so accuracy is not measured",)

    def shard(self, number: int) -> dict[str, Any]:
        return {"tar": self._tars[number], "classes": self._classes}

    def spread(self, count: int, skipped: set[str]) -> Iterator[NamedImage]:
        chosen = self._tars[:: max(1, len(self._tars) // count)][:count]
        left = count
        for position, tar in enumerate(chosen):
            share = -(-left // (len(chosen) - position))
            readable = (image for image in read_tar(tar, self._classes) if image.name not in skipped)
            for _, image in zip(range(share), readable, strict=False):
                left -= 1
                yield image

    def fingerprint(self) -> str:
        return hashlib.sha256("\n".join(map(identity, self._tars)).encode(errors="surrogateescape")).hexdigest()


def open_images(
    data: str | Path, classes: int, names: Sequence[str] = (), shard_images: int = SHARD_IMAGES
) -> ImageData:
    """Find the images of a comparison.

    Args:
        data: a folder of images or a CSV file, see `find_labels`; a tar file, a pattern for tar files or a folder of
            them, see `edgeq.comparison.tars`. Each may be a URL that fsspec opens.
        classes: the models' number of classes, without a background class.
        names: the models' labels, or empty.
        shard_images: number of images in a shard of single files.

    Raises:
        InputError: there are no images, or the labels are invalid.
        EdgeqError: the URL's protocol is unknown, or its package is not installed.
    """
    if names_tars(str(data)):
        return _Tars(expand_tars(str(data)), classes)
    if is_url(data):
        return _Files(*_find_at_url(str(data), classes, names), shard_images)
    images, notes = find_labels(data, classes, names)
    return _Files([(str(image.path), image.class_index) for image in images], notes, shard_images)


def read_shard(shard: dict[str, Any], folder: str | None = None) -> Iterator[NamedImage]:
    """Yield the images of a shard: of a tar with their bytes, else without.

    Args:
        shard: the shard.
        folder: the folder that relative paths start from; None for the working folder.
    """
    if "tar" in shard:
        yield from read_tar(shard["tar"], shard["classes"], folder)
    else:
        for path, index in shard["files"]:
            yield NamedImage(path, index)


def content_of(path: str, folder: str | None = None) -> bytes | None:
    """Return the bytes of an image that must be read before it is decoded, else None.

    On a cluster every image is read first: what the network or a file server fails to deliver must not be taken for a
    damaged image, which would be skipped.

    Args:
        path: the image's path or URL.
        folder: the folder that a relative path starts from, on a cluster; None for files of this process.

    Raises:
        ImageError: there is no such file, or this user may not read it.
        OSError: it cannot be read; trying again may help.
    """
    try:
        if is_url(path):
            return read_file(path)
        return None if folder is None else Path(folder, path).read_bytes()
    except FileNotFoundError:
        raise ImageError(f"{path}: no such file") from None
    except IsADirectoryError:
        raise ImageError(f"{path}: is a folder, not an image") from None
    except PermissionError as error:
        raise ImageError(f"{path}: damaged or unreadable image ({error.strerror})") from None


def _find_at_url(url: str, classes: int, names: Sequence[str]) -> tuple[list[_Entry], list[str]]:
    """Do what `find_labels` does, for a URL of a folder or of a CSV file."""
    if url.lower().endswith(".csv"):
        return _rows_at_url(url, classes), [f"true classes from {url.rpartition('/')[2]}"]
    root, files = url.rstrip("/"), list_files(url)
    images = [name for name in files if is_image(name)]
    if not images:
        raise InputError(f"{url}: holds no images, only {len(files)} other files")
    others = len(files) - len(images) - (LABELS_FILE in files)
    skipped = [skipped_note(others)] if others else []
    if LABELS_FILE in files:
        known = {f"{root}/{name}" for name in images}
        listed = [entry for entry in _rows_at_url(f"{root}/{LABELS_FILE}", classes) if entry[0] in known]
        left_out = len(images) - len(listed)
        notes = [left_out_note(left_out)] if left_out else []
        return listed, [f"true classes from {LABELS_FILE}", *notes, *skipped]
    top = {name: name.partition("/")[0] for name in images if "/" in name}
    index, source = classes_of_folders(sorted(set(top.values())), classes, names)
    return [(f"{root}/{name}", index.get(top.get(name, ""))) for name in images], [source, *skipped]


def _rows_at_url(url: str, classes: int) -> list[_Entry]:
    try:
        text = read_file(url).decode("utf-8-sig")
    except FileNotFoundError:
        raise InputError(f"{url}: no such file") from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{url}: cannot read labels ({one_line(error)})") from None
    base = url.rpartition("/")[0]
    images = {f"{base}/{name}": index for _, name, index in rows_of_labels(text, url, classes)}
    if not images:
        raise InputError(f"{url}: names no files")
    return sorted(images.items())
