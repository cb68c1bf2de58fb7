"""Read and write the zip archive that may follow the model in a .tflite file.

TFLite Metadata calls the archive's members "associated files". Interpreters ignore the archive, and Python's zipfile
can read it.
"""

from __future__ import annotations

import io
import os
from collections.abc import Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING

from edgeq.errors import ModelError

if TYPE_CHECKING:
    import zipfile

__all__ = ["join", "open_archive", "split"]

_LONGEST_END = 22 + 65535  # bytes: the last record of a zip file, with the longest possible comment


def open_archive(file: IO[bytes]) -> zipfile.ZipFile | None:
    """Open the archive in a .tflite file, or in any other file that ends with a zip archive.

    Args:
        file: the file, open for reading; it must stay open as long as the archive is used.

    Returns:
        The archive, or None if the file has none.

    Raises:
        zipfile.BadZipFile: the archive is damaged.
    """
    # Look for the signature of a zip's last record (APPNOTE.TXT, 4.3.16) before importing zipfile, which takes 6 % of
    # the start-up time on a Raspberry Pi.
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_END))
    if b"PK\5\6" not in file.read():
        return None
    import zipfile

    return zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None


def split(content: bytes, path: str | Path) -> tuple[bytes, dict[str, bytes]]:
    """Split a .tflite file into the model and the members of the archive behind it.

    Args:
        content: the file's content.
        path: the file's name in messages.

    Returns:
        The model (the flatbuffer, and any buffers that the file stores after it); and the content of the archive's
        members, by name and in order, empty if there is no archive.

    Raises:
        ModelError: the archive is damaged.
    """
    try:
        archive = open_archive(io.BytesIO(content))
        if archive is None:
            return content, {}
        members = archive.infolist()
        end = min((member.header_offset for member in members), default=len(content))
        return content[:end], {member.filename: archive.read(member) for member in members}
    except Exception as error:  # zipfile raises nearly anything on damaged archives
        raise ModelError(f"{path}: the zip archive behind the model is damaged ({error!r})") from None


def join(model: bytes, members: Mapping[str, bytes]) -> bytes:
    """Append an archive to a model; the inverse of `split`.

    Members are stored uncompressed, as TFLite's Task Library and MediaPipe require. They are sorted by name and have
    fixed times, so the same arguments give bit-identical results.

    Args:
        model: a .tflite flatbuffer, with any buffers that are stored after it.
        members: content of each member, by name.

    Returns:
        The content of the .tflite file.
    """
    import zipfile

    from edgeq.files import member_info

    content = io.BytesIO(model)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(member_info(name), data)
    return content.getvalue()
