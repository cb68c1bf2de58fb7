"""The formats of .tflite file that a float network can be converted to."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["FORMATS", "IO_TYPES", "Format"]

IO_TYPES = ("int8", "uint8", "float32")
"""Types that the input and output of an INT8 model can have."""


@dataclass(frozen=True)
class Format:
    """A format of .tflite file.

    Attributes:
        name: the format's name, as in file names and on the command line.
        description: one line that describes the format to a user.
        calibrated: whether conversion needs a representative dataset.
    """

    name: str
    description: str
    calibrated: bool = False


FORMATS = {
    form.name: form
    for form in (
        Format("fp32", "float32, the reference"),
        Format("int8", "full integer", calibrated=True),
        Format("fp16", "float16 weights, computed in float32"),
        Format("dynamic", "8-bit weights, activations quantized as they come"),
        Format("int16x8", "16-bit activations, 8-bit weights", calibrated=True),
    )
}
"""All formats, by name."""
