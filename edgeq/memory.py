"""The memory that this machine has available."""

from __future__ import annotations

from pathlib import Path

from edgeq.errors import ModelError

__all__ = ["available_bytes", "require_memory_for"]


def available_bytes() -> int | None:
    """Return the memory that is available without swapping, in bytes; None if the system does not say (not Linux)."""
    try:
        with Path("/proc/meminfo").open(encoding="ascii") as file:
            for line in file:
                if line.startswith("MemAvailable:"):
                    return int(line.split()[1]) * 1024
    except (OSError, ValueError):
        pass
    return None


def require_memory_for(model: str | Path) -> None:
    """Raise a `ModelError` if a model's file alone is larger than the available memory.

    The system would otherwise end the process, or another one, while the model is loaded.
    """
    size, available = Path(model).stat().st_size, available_bytes()
    if available is not None and size > available:
        raise ModelError(
            f"{model}: needs more than {size / 1e6:.0f} MB of memory, and {available / 1e6:.0f} MB are available"
        )
