"""Objects that a ``with`` block closes.

Uses only the standard library, because the agent on a device also uses this module.
"""

from __future__ import annotations

from typing import TypeVar

__all__ = ["Closing"]

T = TypeVar("T", bound="Closing")


class Closing:
    """Base class of objects that a ``with`` block closes."""

    def close(self) -> None:
        """Close the object; may be called several times."""
        raise NotImplementedError

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()
