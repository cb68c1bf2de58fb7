"""Check by a file's first bytes whether it is a .tflite model."""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import ModelError

__all__ = ["check_file"]


def check_file(path: str | Path) -> None:
    """Check that a file can be read and has the file identifier of a .tflite model.

    Raises:
        ModelError: the file cannot be read, or has another identifier.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(8)
    except FileNotFoundError:
        raise ModelError(f"{path}: no such model file") from None
    except OSError as error:
        raise ModelError(f"{path}: cannot read the model ({error.strerror})") from None
    if head[4:8] != b"TFL3":
        raise ModelError(f"{path}: not a TFLite model (its bytes 4 to 8 are not TFL3); edgeq convert makes one")
