"""Files at any URL that fsspec opens, such as ``https://``, ``s3://`` or ``memory://``, and local files."""

from __future__ import annotations

import contextlib
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

from edgeq.errors import EdgeqError, InputError, one_line

__all__ = ["identity", "is_url", "list_files", "open_file", "read_file"]

_URL = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+://")


def is_url(name: object) -> bool:
    """Return whether a name is a URL rather than a path."""
    return bool(_URL.match(str(name)))


def read_file(url: str) -> bytes:
    """Read a whole file at a URL.

    Raises:
        FileNotFoundError: there is no such file.
        EdgeqError: the URL's protocol is unknown, or its package is not installed.
        OSError: it cannot be read; trying again may help.
    """
    system, path = _locate(url)
    try:
        content: bytes = system.cat_file(path)
    except OSError:
        raise
    except Exception as error:  # each of fsspec's drivers raises errors of its library
        raise OSError(f"{url}: cannot be read ({one_line(error)})") from None
    return content


@contextlib.contextmanager
def open_file(name: str) -> Iterator[IO[bytes]]:
    """Open a local file, or a file at a URL, to read its bytes from start to end; for the errors see `read_file`."""
    if is_url(name):
        system, path = _locate(name)
        with system.open(path, "rb", cache_type="readahead", block_size=1 << 22) as stream:
            yield stream
    else:
        with Path(name).open("rb") as stream:
            yield stream


def list_files(url: str) -> list[str]:
    """List all files in a folder at a URL and below it, as names relative to it, sorted, except hidden ones.

    Raises:
        InputError: there is no such folder, it is empty, or it cannot be listed.
        EdgeqError: the URL's protocol is unknown, or its package is not installed.
    """
    system, root = _locate(url.rstrip("/") + "/")
    base = root.rstrip("/") + "/"
    try:
        found = system.find(root)
    except FileNotFoundError:
        found = []
    except Exception as error:
        raise InputError(f"{url}: cannot be listed ({one_line(error)})") from None
    names = [path.removeprefix(base) for path in found if path.startswith(base)]
    if not names:
        raise InputError(f"{url}: no such folder, or an empty one")
    return sorted(name for name in names if not any(part.startswith(".") for part in name.split("/")))


def identity(name: str) -> str:
    """Return a text that changes when a file changes: its name, size and time, or what a URL's server says of it."""
    if not is_url(name):
        try:
            found = Path(name).stat()
        except OSError as error:
            raise InputError(f"{name}: cannot be read ({error.strerror})") from None
        return f"{name} {found.st_size} {found.st_mtime_ns}"
    system, path = _locate(name)
    try:
        facts = system.info(path)
    except FileNotFoundError:
        raise InputError(f"{name}: no such file") from None
    except Exception as error:
        raise InputError(f"{name}: cannot be read ({one_line(error)})") from None
    known = {key: str(facts[key]) for key in sorted(facts) if key in ("size", "ETag", "mtime", "created", "etag")}
    return f"{name} {hashlib.sha256(repr(known).encode()).hexdigest()}"


def _locate(url: str) -> tuple[Any, str]:
    """Return fsspec's file system for a URL, and the path in it."""
    try:
        from fsspec.core import url_to_fs
    except ModuleNotFoundError:
        raise EdgeqError(f"{url}: URLs need the package fsspec; pip install 'edgeq[cluster]'") from None
    try:
        system, path = url_to_fs(url)
    except (ImportError, ValueError) as error:  # fsspec names the package that a protocol needs
        raise EdgeqError(f"{url}: {one_line(error)}") from None
    return system, path
