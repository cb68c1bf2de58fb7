"""Arrays stored in files.

Large ones are mapped into memory. Their disk space is reserved when they are created: with a sparse file, a full disk
would end the process at some later write, by SIGBUS and without a message.
"""

from __future__ import annotations

import errno
import io
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError
from edgeq.files import NO_ROOM, temporary_folder
from edgeq.work_folders import is_in_work_folder

__all__ = ["mapped_array", "npz_bytes", "temporary_array"]


def npz_bytes(*arrays: npt.ArrayLike, **named: npt.ArrayLike) -> memoryview:
    """Return the content of a .npz file of arrays, see `numpy.savez`.

    Writing them to a file directly leaves a traceback of `zipfile` on standard error if the disk is full.
    """
    content = io.BytesIO()
    np.savez(content, *arrays, **named)
    return content.getbuffer()


def mapped_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Create a .npy file of zeros and map it into memory.

    Args:
        path: the file to create.
        dtype: the array's type.
        shape: the array's shape.

    Raises:
        InputError: the disk has too little free space; no file is left behind.
    """
    size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
    try:
        if size > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)  # type: ignore[no-untyped-call]
        _reserve(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        needed = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
        raise InputError(f"{path.parent}: cannot reserve {needed} ({error.strerror})") from None
    return array


def temporary_array(dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Map an array of zeros that is stored in an unlinked file in the temporary folder.

    The disk space is freed when the array is deleted or the process ends.

    Raises:
        InputError: the disk has too little free space.
    """
    with temporary_folder() as folder:
        try:
            return mapped_array(folder / "array.npy", dtype, shape)
        except InputError as error:
            shown = next(parent for parent in folder.parents if not is_in_work_folder(str(parent)))
            reason = str(error).replace(str(folder), str(shown))
            raise InputError(f"{reason}; free some space, or set TMPDIR to a folder on a larger disk") from None


def _reserve(path: Path) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in NO_ROOM:  # any other error means that the file system cannot reserve space
                raise
