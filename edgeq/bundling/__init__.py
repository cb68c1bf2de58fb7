"""All that a board needs to run one model, in one place; and a model as a C array for microcontrollers."""

from __future__ import annotations

from edgeq.bundling.bundle import Bundle, make_bundle
from edgeq.bundling.c_array import make_c_array

__all__ = ["Bundle", "make_bundle", "make_c_array"]
