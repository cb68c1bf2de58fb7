"""Folders of images that were made, not taken: written whole or not at all, each image saying where it is from.

What there is to say travels in the images' own text, as any other file in the folder would be taken for a photo.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from edgeq.errors import InputError

__all__ = ["read_origin", "replacing_folder", "write_images"]

_NAME = "synthesized-{:04}.png"
_PATTERN = re.compile(r"synthesized-\d{4,}\.png")
_KEYWORD = "edgeq"


def write_images(folder: Path, images: npt.NDArray[np.uint8], origin: dict[str, Any]) -> list[Path]:
    """Write images as lossless PNG files ``synthesized-0001.png``, ``synthesized-0002.png``, ...

    Args:
        folder: an existing one.
        images: (N, height, width, 1 or 3) uint8, grey or RGB.
        origin: plain JSON data on how they were made; it goes into each file, as the PNG text ``edgeq``.

    Returns:
        The files, in order.
    """
    text = PngInfo()
    text.add_text(_KEYWORD, json.dumps(origin))
    paths = [folder / _NAME.format(number) for number in range(1, len(images) + 1)]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, pnginfo=text)
    return paths


def read_origin(path: str | Path) -> dict[str, Any] | None:
    """What `write_images` says in a file of how it was made; None of any other file."""
    try:
        with Image.open(path) as image:
            origin = json.loads(image.info.get(_KEYWORD, "null"))
    except (OSError, UnidentifiedImageError, ValueError, TypeError):
        return None
    return origin if isinstance(origin, dict) else None


@contextlib.contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """Make a folder of images as a whole, or leave things as they were.

    Gives a temporary folder beside it (hidden, as its name starts with a dot). When the block ends well, it takes
    the folder's place; when it raises, it vanishes.

    Args:
        folder: a new or an empty one, or one that holds only what `write_images` wrote.

    Raises:
        InputError: it holds something else, or cannot be made or written to.
    """
    target = Path(folder).resolve()
    _require_replaceable(folder, target)
    part, old = (target.with_name(f".{target.name}.{os.getpid()}.{kind}") for kind in ("part", "old"))
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        part.mkdir()
        yield part
        _require_replaceable(folder, target)  # minutes have passed
        if target.exists():
            target.rename(old)
        part.rename(target)
    except OSError as error:
        raise InputError(f"{folder}: cannot write ({error.strerror or error})") from None
    finally:
        if old.exists() and not target.exists():
            old.rename(target)
        for rest in (part, old):
            shutil.rmtree(rest, ignore_errors=True)


def _require_replaceable(folder: str | Path, target: Path) -> None:
    """Complain of a folder that would lose something of the user's."""
    if not target.exists():
        return
    if not target.is_dir():
        raise InputError(f"{folder}: is a file; give a folder for the images")
    if target == Path.cwd():
        raise InputError(f"{folder}: is the current folder; give one in it for the images")
    for path in sorted(target.iterdir()):
        if not _PATTERN.fullmatch(path.name) or read_origin(path) is None:
            raise InputError(
                f"{folder}: holds {path.name}, which is none of the images that edgeq synthesized; give a new or an "
                "empty folder"
            )
