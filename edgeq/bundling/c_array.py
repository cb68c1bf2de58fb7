"""Write a model as a C array for TensorFlow Lite for Microcontrollers, which has no file system."""

from __future__ import annotations

import re
from pathlib import Path

from edgeq.files import replacing
from edgeq.runtime import Model
from edgeq.tflite.archive import split
from edgeq.tflite.metadata import Overrides

__all__ = ["write_c_array"]

_ALIGNMENT = 16  # TensorFlow Lite for Microcontrollers reads tables and weights in place
_BYTES_A_LINE = 12


def write_c_array(model: str | Path, folder: str | Path, overrides: Overrides | None = None) -> tuple[Path, Path]:
    """Write a model as ``NAME.h`` and ``NAME.c``, which are valid C and C++.

    The array contains only the flatbuffer, without the archive behind it, which would waste flash memory.

    Args:
        model: the .tflite file of an image classifier.
        folder: folder for the two files.
        overrides: preprocessing and labels to use instead of the file's.

    Returns:
        The paths of the header and of the source file.

    Raises:
        ModelError: the model is not an image classifier.
        InputError: the files cannot be written.
    """
    loaded = Model(model, overrides=overrides)
    name = re.sub(r"\W", "_", Path(model).stem, flags=re.ASCII).lower()
    name = f"model_{name}" if not name[:1].isalpha() else name
    content, _ = split(Path(model).read_bytes(), model)
    targets = [Path(folder) / f"{name}.h", Path(folder) / f"{name}.c"]
    with replacing(targets) as (header, source):
        header.write_text(_header(name, loaded, len(content)), "utf-8")
        source.write_text(_source(name, loaded, content), "utf-8")
    return targets[0], targets[1]


def _header(name: str, model: Model, size: int) -> str:
    upper, spec = name.upper(), model.preprocessing
    mean, std = (", ".join(f"{v:g}" for v in values) for values in (spec.mean, spec.std))
    defines = {
        "SIZE": f"{size}u",
        "ALIGNMENT": str(_ALIGNMENT),
        "INPUT_WIDTH": str(spec.width),
        "INPUT_HEIGHT": str(spec.height),
        "INPUT_CHANNELS": str(len(spec.channels)),
        "CLASSES": str(model.classes),
    }
    for tensor, end in ((model.input, "INPUT"), (model.output, "OUTPUT")):
        quantization = tensor.quantization
        if len(quantization.scale) == 1:
            defines[f"{end}_SCALE"] = f"{quantization.scale[0]!r}f"
            defines[f"{end}_ZERO_POINT"] = str(quantization.zero_point[0])
    lines = [f"#define {upper}_{key} {value}" for key, value in defines.items()]
    return f"""\
/* {name}: an image classifier for TensorFlow Lite for Microcontrollers. Written by edgeq; do not edit.
 *
 * Input: {model.input.quantization.dtype}, {model.layout}, {spec.channels}, pixels normalized as (pixel - mean) / std
 * with mean {mean} and std {std}, then divided by INPUT_SCALE, rounded, plus INPUT_ZERO_POINT.
 * Output: {model.output.quantization.dtype}; (value - OUTPUT_ZERO_POINT) * OUTPUT_SCALE is the \
{"logit" if model.gives_logits else "probability"} of a class.
 * SHA-256 of the file it was made from: {model.sha256}
 */
#ifndef {upper}_H_
#define {upper}_H_

{chr(10).join(lines)}

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char {name}_data[{upper}_SIZE];
{f"extern const char *const {name}_labels[{upper}_CLASSES];" if model.labels else "/* The model carries no labels. */"}

#ifdef __cplusplus
}}
#endif

#endif /* {upper}_H_ */
"""


def _source(name: str, model: Model, content: bytes) -> str:
    upper = name.upper()
    rows = [content[i : i + _BYTES_A_LINE] for i in range(0, len(content), _BYTES_A_LINE)]
    data = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    labels = "\n".join(f'    "{_c_text(label)}",' for label in model.labels)
    listed = f"\n\nconst char *const {name}_labels[{upper}_CLASSES] = {{\n{labels}\n}};" if model.labels else ""
    return f"""\
#include "{name}.h"

#if defined(_MSC_VER)
__declspec(align({_ALIGNMENT}))
#else
__attribute__((aligned({_ALIGNMENT})))
#endif
const unsigned char {name}_data[{upper}_SIZE] = {{
{data}
}};{listed}
"""


def _c_text(text: str) -> str:
    """Escape text for a C string literal: as UTF-8, with special characters as three octal digits."""
    return "".join(
        chr(byte) if 32 <= byte < 127 and chr(byte) not in '"\\?' else f"\\{byte:03o}" for byte in text.encode()
    )
