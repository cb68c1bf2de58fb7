"""Bundle a model with everything that a board needs to run it, or write it as a C array for microcontrollers."""

from __future__ import annotations

from edgeq.bundling.bundle import Bundle, bundle
from edgeq.bundling.c_array import write_c_array

__all__ = ["Bundle", "bundle", "write_c_array"]
