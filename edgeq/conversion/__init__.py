"""From a float network to verified .tflite files."""

from __future__ import annotations

from edgeq.conversion.convert import ConvertedModel, convert
from edgeq.conversion.formats import FORMATS, IO_TYPES, Format

__all__ = ["FORMATS", "IO_TYPES", "ConvertedModel", "Format", "convert"]
