"""Write a model as a C array for TensorFlow Lite for Microcontrollers, which has no file system."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from pathlib import Path

from edgeq.files import replacing
from edgeq.runtime import Model, TensorModel, open_model
from edgeq.tflite.archive import split
from edgeq.tflite.metadata import Overrides

__all__ = ["write_c_array"]

_ALIGNMENT = 16  # TensorFlow Lite for Microcontrollers reads tables and weights in place
_BYTES_A_LINE = 12


def write_c_array(
    model: str | Path, folder: str | Path, overrides: Overrides | None = None, task: str | None = None
) -> tuple[Path, Path]:
    """Write a model as ``NAME.h`` and ``NAME.c``, which are valid C and C++.

    The array contains only the flatbuffer, without the archive behind it, which would waste flash memory.

    Args:
        model: the .tflite file.
        folder: folder for the two files.
        overrides: preprocessing and labels to use instead of the file's.
        task: ``classification`` or ``tensors``; None to read it from the file. For ``tensors``, the header names the
            shape, type, scale and zero point of each input and output.

    Returns:
        The paths of the header and of the source file.

    Raises:
        ModelError: the file is not a .tflite model.
        InputError: the files cannot be written.
    """
    loaded = open_model(model, task=task, overrides=overrides)
    name = re.sub(r"\W", "_", Path(model).stem, flags=re.ASCII).lower()
    name = f"model_{name}" if not name[:1].isalpha() else name
    content, _ = split(Path(model).read_bytes(), model)
    targets = [Path(folder) / f"{name}.h", Path(folder) / f"{name}.c"]
    with replacing(targets) as (header, source):
        if isinstance(loaded, Model):
            header.write_text(_header(name, loaded, len(content)), "utf-8")
            source.write_text(_source(name, loaded.labels, content), "utf-8")
        else:
            header.write_text(_tensor_header(name, loaded, len(content)), "utf-8")
            source.write_text(_source(name, (), content), "utf-8")
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
    comment = f"""\
/* {name}: an image classifier for TensorFlow Lite for Microcontrollers. Written by edgeq; do not edit.
 *
 * Input: {model.input.quantization.dtype}, {model.layout}, {spec.channels}, pixels normalized as (pixel - mean) / std
 * with mean {mean} and std {std}, then divided by INPUT_SCALE, rounded, plus INPUT_ZERO_POINT.
 * Output: {model.output.quantization.dtype}; (value - OUTPUT_ZERO_POINT) * OUTPUT_SCALE is the \
{"logit" if model.gives_logits else "probability"} of a class.
 * SHA-256 of the file it was made from: {model.sha256}
 */
"""
    labels = f"extern const char *const {name}_labels[{upper}_CLASSES];" if model.labels else ""
    return comment + _guarded(name, defines, labels or "/* The model carries no labels. */")


def _tensor_header(name: str, model: TensorModel, size: int) -> str:
    """Return the header of a model of plain tensors."""
    defines = {"SIZE": f"{size}u", "ALIGNMENT": str(_ALIGNMENT)}
    defines |= {"INPUTS": str(len(model.inputs)), "OUTPUTS": str(len(model.outputs))}
    listed = []
    for end, specs in (("INPUT", model.inputs), ("OUTPUT", model.outputs)):
        for number, spec in enumerate(specs):
            key, quantization = f"{end}_{number}", spec.quantization
            shape = "x".join(map(str, spec.shape)) or "scalar"
            listed.append(f" * {key}: {_commented(spec.name)}, {quantization.dtype} of shape {shape}")
            defines[f"{key}_LENGTH"] = str(math.prod(spec.shape))
            if len(quantization.scale) == 1:
                defines[f"{key}_SCALE"] = f"{quantization.scale[0]!r}f"
                defines[f"{key}_ZERO_POINT"] = str(quantization.zero_point[0])
    lines = "\n".join(listed)
    comment = f"""\
/* {name}: a model for TensorFlow Lite for Microcontrollers. Written by edgeq; do not edit.
 *
 * A real number is (value - ZERO_POINT) * SCALE of its input or output.
{lines}
 * SHA-256 of the file it was made from: {model.sha256}
 */
"""
    return comment + _guarded(name, defines)


def _commented(text: str) -> str:
    """Return a name so that it cannot end a C comment."""
    return "".join(c if c.isprintable() else "?" for c in text).replace("*/", "* /")


def _guarded(name: str, defines: dict[str, str], labels: str = "") -> str:
    """Return the part of a header that compilers read: include guard, definitions and declarations."""
    upper = name.upper()
    lines = [f"#define {upper}_{key} {value}" for key, value in defines.items()]
    declared = f"{labels}\n" if labels else ""
    return f"""\
#ifndef {upper}_H_
#define {upper}_H_

{chr(10).join(lines)}

#ifdef __cplusplus
extern "C" {{
#endif

extern const unsigned char {name}_data[{upper}_SIZE];
{declared}
#ifdef __cplusplus
}}
#endif

#endif /* {upper}_H_ */
"""


def _source(name: str, labels: Sequence[str], content: bytes) -> str:
    upper = name.upper()
    rows = [content[i : i + _BYTES_A_LINE] for i in range(0, len(content), _BYTES_A_LINE)]
    data = "\n".join("    " + " ".join(f"0x{byte:02x}," for byte in row) for row in rows)
    texts = "\n".join(f'    "{_c_text(label)}",' for label in labels)
    listed = f"\n\nconst char *const {name}_labels[{upper}_CLASSES] = {{\n{texts}\n}};" if labels else ""
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
