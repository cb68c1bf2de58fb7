"""Large arrays that lie in a file and are mapped into memory."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError

__all__ = ["mapped_array"]

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def mapped_array(path: Path, dtype: npt.DTypeLike, shape: tuple[int, ...]) -> npt.NDArray[Any]:
    """Make a file of zeros and map it.

    Its room is taken at once: a disk that fills up later would end the process at the first write, with no word.

    Raises:
        InputError: there is no room for it.
    """
    size = np.dtype(dtype).itemsize * int(np.prod(shape, dtype=np.int64))
    try:
        if size > shutil.disk_usage(path.parent).free:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        array: npt.NDArray[Any] = np.lib.format.open_memmap(path, "w+", np.dtype(dtype), shape)  # type: ignore[no-untyped-call]
        _take_room(path)
    except OSError as error:
        path.unlink(missing_ok=True)
        needed = f"{size / 1e9:.1f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
        raise InputError(f"{path.parent}: cannot keep {needed} there ({error.strerror})") from None
    return array


def _take_room(path: Path) -> None:
    if not hasattr(os, "posix_fallocate"):  # macOS
        return
    with path.open("r+b") as file:
        try:
            os.posix_fallocate(file.fileno(), 0, path.stat().st_size)
        except OSError as error:
            if error.errno in _NO_ROOM:  # other errors: a file system that does not know how
                raise
