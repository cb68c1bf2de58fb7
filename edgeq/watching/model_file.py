"""The file of the model that watches."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.errors import InputError
from edgeq.files import sha256_of_file

if TYPE_CHECKING:
    from edgeq.runtime import Model

__all__ = ["model_digest"]


def model_digest(model: str | Path | Model) -> str:
    """Return the SHA-256 digest of a model's file, in hexadecimal.

    Raises:
        InputError: the file cannot be read.
    """
    if not isinstance(model, str | Path):
        return model.sha256
    try:
        return sha256_of_file(model)
    except OSError as error:
        raise InputError(f"{model}: cannot be read ({error.strerror})") from None
