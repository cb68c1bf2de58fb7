"""Check a .tflite file before anything parses it: it may come from anywhere.

Every reader of a file, in Python and in native code, comes after :func:`check_file`. The check reads the tables and
not the weights: 10 ms for MobileNetV2. A file that passed is not checked again until it changes
(:mod:`edgeq.tflite.known`).
"""

from __future__ import annotations

import mmap
import os
import stat
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import ModelError
from edgeq.tflite.known import CHECKED, Identity, known_files

__all__ = ["Facts", "check_content", "check_file", "check_header", "facts_of", "identity_of"]

_IDENTIFIER = b"TFL3"
_facts: dict[Identity, Facts] = {}


@dataclass(frozen=True)
class Facts:
    """What loading a model will need.

    Attributes:
        custom_operators: index and name of the first operator of each custom type.
        multiply_adds: of one run, from the shapes in the file.
        activation_bytes: size of all activations.
        peak_activation_bytes: the most of them that are alive at the same time.
    """

    custom_operators: tuple[tuple[int, str], ...]
    multiply_adds: int
    activation_bytes: int
    peak_activation_bytes: int


def check_file(path: str | Path) -> Identity:
    """Check that a file is a .tflite model whose tables can be followed and are consistent.

    Returns:
        The file's identity, to find out later whether it has changed since.

    Raises:
        ModelError: the file cannot be read, is no .tflite model, or is damaged; the message says where.
    """
    identity = identity_of(path)
    if not known_files().has(CHECKED, identity):
        facts_of(path, identity)
        known_files().add(CHECKED, identity)
    return identity


def facts_of(path: str | Path, identity: Identity) -> Facts:
    """Check a file, whether or not it passed before, and return what loading it will need.

    Args:
        path: the file.
        identity: its identity.

    Raises:
        ModelError: see :func:`check_file`.
    """
    if identity not in _facts:
        _facts.clear()  # only the file that is being opened is asked for again
        _facts[identity] = _checked(path)
    return _facts[identity]


def _checked(path: str | Path) -> Facts:
    try:
        with Path(path).open("rb") as file:
            check_header(file.read(8), path)
            with mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
                return check_content(content, path)
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from None


def check_content(content: bytes | bytearray | mmap.mmap, path: str | Path) -> Facts:
    """Check a model in memory.

    Args:
        content: the content of a .tflite file.
        path: the model's name in messages.

    Raises:
        ModelError: the content is damaged.
    """
    # Imported here: a file that passed before needs none of it.
    from edgeq.tflite.operations import check_operations, custom_operators, work_of
    from edgeq.tflite.structure import Problem, read_structure

    try:
        structure = read_structure(content)
        check_operations(structure)
        return Facts(custom_operators(structure), *work_of(structure))
    except Problem as problem:
        raise ModelError(f"{path}: {problem}; the file is damaged: copy or convert it again") from None


def check_header(head: bytes, path: str | Path) -> None:
    """Check that a file starts as a .tflite model does.

    Args:
        head: the file's first 8 bytes.
        path: the file's name in messages.

    Raises:
        ModelError: it does not.
    """
    if head[4:8] != _IDENTIFIER:
        raise ModelError(f"{path}: not a TFLite model (its bytes 4 to 8 are not TFL3); edgeq convert makes one")


def identity_of(path: str | Path) -> Identity:
    """Return a file's identity: it changes whenever the file does.

    Raises:
        ModelError: there is no such file, or it cannot be read.
    """
    try:
        found = os.stat(path)  # noqa: PTH116 (on every start: pathlib takes three times as long)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot read the model ({getattr(error, 'strerror', error)})") from None
    if stat.S_ISDIR(found.st_mode):
        raise ModelError(f"{path}: cannot read the model (Is a directory)")
    if not stat.S_ISREG(found.st_mode):  # reading from a pipe would wait for ever
        raise ModelError(f"{path}: cannot read the model (not a regular file)")
    return Identity(found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
