"""Convert a float network to verified .tflite files."""

from __future__ import annotations

from edgeq.conversion.convert import Conversion, convert
from edgeq.conversion.formats import FORMATS, IO_TYPES
from edgeq.conversion.pipeline import convert_network
from edgeq.conversion.writer import ConvertedModel

__all__ = ["FORMATS", "IO_TYPES", "Conversion", "ConvertedModel", "convert", "convert_network"]
