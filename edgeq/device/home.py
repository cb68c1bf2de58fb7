"""Where edgeq keeps its files on a device. Uses only the standard library, because the agent needs it first."""

from __future__ import annotations

import os
import re
from pathlib import Path

from edgeq.errors import DeviceError

__all__ = ["HOME", "kept_file"]

HOME = Path(os.environ.get("XDG_DATA_HOME") or Path.home() / ".local" / "share") / "edgeq"
_DIGEST = re.compile(r"[0-9a-f]{64}")


def kept_file(sha256: str) -> Path:
    """Return the path at which the file with that digest is stored."""
    if not _DIGEST.fullmatch(sha256):
        raise DeviceError(f"{sha256!r} is not a digest")
    return HOME / "files" / sha256
