"""Folders of synthesized images, written completely or not at all.

Each image stores its provenance as PNG text. A separate file in the folder could be mistaken for a photo.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image, UnidentifiedImageError
from PIL.PngImagePlugin import PngInfo

from edgeq.errors import InputError
from edgeq.files import replacing

__all__ = ["read_origin", "replacing_folder", "write_images"]

_NAME = "synthesized-{:04}.png"
_PATTERN = re.compile(r"synthesized-\d{4,}\.png")
_KEYWORD = "edgeq"


def write_images(folder: Path, images: npt.NDArray[np.uint8], origin: dict[str, Any]) -> list[Path]:
    """Write images as lossless PNG files ``synthesized-0001.png``, ``synthesized-0002.png``, ...

    Args:
        folder: an existing folder.
        images: (N, height, width, 1 or 3) uint8, grey or RGB.
        origin: the images' provenance as plain JSON data, stored in each file as the PNG text ``edgeq``.

    Returns:
        The paths of the files, in order.
    """
    text = PngInfo()
    text.add_text(_KEYWORD, json.dumps(origin))
    paths = [folder / _NAME.format(number) for number in range(1, len(images) + 1)]
    for path, pixels in zip(paths, images, strict=True):
        Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels).save(path, pnginfo=text)
    return paths


def read_origin(path: str | Path) -> dict[str, Any] | None:
    """Read the provenance that `write_images` stored in a file; None for any other file."""
    try:
        with Image.open(path) as image:
            origin = json.loads(image.info.get(_KEYWORD, "null"))
    except (OSError, UnidentifiedImageError, ValueError, TypeError):
        return None
    return origin if isinstance(origin, dict) else None


@contextlib.contextmanager
def replacing_folder(folder: str | Path) -> Iterator[Path]:
    """Replace a folder of synthesized images completely, or leave it unchanged.

    Yields a temporary folder to write to. It replaces `folder` if the block succeeds, and is deleted if it raises.

    Args:
        folder: a folder that does not exist, is empty, or contains only files from `write_images`.

    Raises:
        InputError: the folder contains other files, or cannot be created or written to.
    """
    target = Path(folder)
    _require_replaceable(target)
    with replacing([target]) as (part,):
        part.mkdir()
        yield part
        _require_replaceable(target)  # again, because minutes may have passed


def _require_replaceable(folder: Path) -> None:
    """Raise an `InputError` if a folder contains files that edgeq did not synthesize."""
    if not folder.exists():
        return
    if not folder.is_dir():
        raise InputError(f"{folder}: is a file; give a folder for the images")
    for path in sorted(folder.iterdir()):
        if not _PATTERN.fullmatch(path.name) or read_origin(path) is None:
            raise InputError(
                f"{folder}: holds {path.name}, which edgeq did not synthesize; give a new or an empty folder"
            )
