"""The zip archive that may follow the model in a .tflite file.

TFLite Metadata calls its members "associated files". Interpreters ignore it, and the standard library reads it.
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

_LONGEST_END = 22 + 65535  # bytes: a zip's last record with the longest comment


def open_archive(file: IO[bytes]) -> zipfile.ZipFile | None:
    """Open the archive in a .tflite file, or in any other file with a zip at its end.

    Args:
        file: open for reading; it must stay open as long as the archive is read.

    Returns:
        The archive, or None where the file has none.

    Raises:
        zipfile.BadZipFile: the archive is damaged.
    """
    # The mark of a zip's end where it would have to be (APPNOTE.TXT, 4.3.16). Importing zipfile takes 6 % of the
    # start on a Raspberry Pi, which files without an archive need not wait for.
    file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_END))
    if b"PK\5\6" not in file.read():
        return None
    import zipfile

    return zipfile.ZipFile(file) if zipfile.is_zipfile(file) else None


def split(content: bytes, path: str | Path) -> tuple[bytes, dict[str, bytes]]:
    """Split a .tflite file into the model and what is in the archive behind it.

    Args:
        content: of the file.
        path: what to call it in messages.

    Returns:
        The model: the flatbuffer, and the buffers that follow it where the file keeps some outside. Then the
        archive's members by name, in their order; empty where there is no archive.

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
    """Put an archive behind a model, the inverse of `split`.

    Members are stored uncompressed, as the readers of TFLite's Task Library and of MediaPipe need it, in the order of
    their names and without times, so that equal arguments give equal bytes.

    Args:
        model: a .tflite flatbuffer, with its outside buffers if it has any; it stays where it is.
        members: content of each member by name.
    """
    import zipfile

    from edgeq.files import member_info

    content = io.BytesIO(model)
    with zipfile.ZipFile(content, "a", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(members.items()):
            archive.writestr(member_info(name), data)
    return content.getvalue()
