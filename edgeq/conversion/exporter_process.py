"""Export a PyTorch or ONNX network to .tflite; the program that `edgeq.conversion.exporters` runs in another process.

    python exporter_process.py FORMAT SOURCE OUT REPORT

FORMAT is ``torch`` or ``onnx``. REPORT is a JSON file that the program writes: ``{"remarks": [...]}`` on success, or
``{"problem": "..."}`` if the network is unsuitable, or ``{"failure": "..."}`` if the tool raised an exception.

This module imports nothing of edgeq: the Python that has litert-torch or onnx2tf need not have edgeq.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

__all__ = ["ProblemError", "main"]

_CHANNELS = (1, 3)
_LAYOUT = "The input's layout was changed from channels first (NCHW) to channels last (NHWC)."
_BATCH = "The batch size, which was left open, was set to 1."


class ProblemError(Exception):
    """The network is unsuitable; the message is a clause that follows the file's name."""


def main(form: str, source: str, out: str, report: str) -> None:
    """Export one file, and write what happened to `report`."""
    try:
        answer: dict[str, Any] = {"remarks": {"torch": _from_torch, "onnx": _from_onnx}[form](source, out)}
    except ProblemError as error:
        answer = {"problem": str(error)}
    except Exception as error:  # both tools raise exceptions of many types
        answer = {"failure": f"{type(error).__name__}: {error}"}
    Path(report).write_text(json.dumps(answer), encoding="utf-8")


def _from_torch(source: str, out: str) -> list[str]:
    """Export a program of ``torch.export`` with litert-torch."""
    import torch

    try:
        program = torch.export.load(source)
    except Exception as error:  # a damaged archive, another kind of .pt2, a program of a newer PyTorch
        raise ProblemError(
            f"PyTorch {torch.__version__} cannot load this file; torch.export.save makes such files ({error})"
        ) from None
    if _is_training(program):
        raise ProblemError(
            "was exported in training mode, with its dropout or batch normalization active; call model.eval() before "
            "torch.export.export"
        )
    image = _example(program)
    remarks = []
    shape = list(image.shape)
    if shape and shape[0] != 1:
        if not getattr(program, "range_constraints", None):
            raise ProblemError(f"was exported for batches of {shape[0]}; export it with an example input of batch 1")
        image = image[:1]
        remarks.append(_BATCH)
    import litert_torch  # takes longer than all checks

    module = program.module()
    if len(shape) == 4 and (shape[1] in _CHANNELS or shape[3] not in _CHANNELS):
        module = litert_torch.to_channel_last_io(module, args=[0])
        image = image.permute(0, 2, 3, 1).contiguous()
        remarks.append(_LAYOUT)
    litert_torch.convert(module, (image,)).export(out)
    return remarks


def _example(program: Any) -> Any:
    """Return the example input that a program was exported with, a float32 tensor."""
    args, kwargs = program.example_inputs or ((), {})
    inputs = [*args, *kwargs.values()]
    if len(inputs) != 1 or kwargs:
        how = "by keyword; export it with positional arguments" if len(inputs) == 1 else "; needs exactly one"
        raise ProblemError(f"has {len(inputs)} example input{'' if len(inputs) == 1 else 's'}{how}")
    dtype = str(getattr(inputs[0], "dtype", type(inputs[0]).__name__)).removeprefix("torch.")
    if dtype != "float32":
        raise ProblemError(f"takes {dtype}; only float32 networks can be converted")
    return inputs[0].detach()


def _is_training(program: Any) -> bool:
    """Return whether a dropout or batch normalization of a program works as during training."""
    for node in program.graph.nodes:
        arguments = getattr(getattr(node.target, "_schema", None), "arguments", ())
        for position, argument in enumerate(arguments):
            if argument.name in ("train", "training"):
                given = node.args[position] if position < len(node.args) else node.kwargs.get(argument.name)
                if given is True:
                    return True
    return False


def _from_onnx(source: str, out: str) -> list[str]:
    """Export an ONNX file with onnx2tf."""
    import onnx

    try:
        model = onnx.load(source)
    except Exception as error:  # a damaged file, or missing external data
        raise ProblemError(f"cannot be loaded as ONNX ({error})") from None
    weights = {tensor.name for tensor in model.graph.initializer}
    inputs = [value for value in model.graph.input if value.name not in weights]
    if len(inputs) != 1:
        raise ProblemError(f"has {len(inputs)} inputs; needs exactly one" if model.graph.node else "is not ONNX")
    dtype = onnx.TensorProto.DataType.Name(inputs[0].type.tensor_type.elem_type)
    if dtype != "FLOAT":
        raise ProblemError(f"takes {dtype}; only float32 networks can be converted")
    remarks = _fix_batch(model, inputs[0])
    shape = [size.dim_value for size in inputs[0].type.tensor_type.shape.dim]
    options = {}
    if len(shape) == 4:
        if shape[1] in _CHANNELS or shape[3] not in _CHANNELS:
            remarks.append(_LAYOUT)
        else:  # onnx2tf would take it for channels first
            options["keep_shape_absolutely_input_names"] = [inputs[0].name]
    with tempfile.TemporaryDirectory() as folder:
        fixed, results = Path(folder) / "model.onnx", Path(folder) / "results"
        onnx.save(model, str(fixed))
        import onnx2tf

        onnx2tf.convert(input_onnx_file_path=str(fixed), output_folder_path=str(results), non_verbose=True, **options)
        shutil.copyfile(results / "model_float32.tflite", out)
    return remarks


def _fix_batch(model: Any, image: Any) -> list[str]:
    """Set an open batch size to 1, which onnx2tf 2.6 does not do itself; return the remarks."""
    sizes = image.type.tensor_type.shape.dim
    shape = [size.dim_value or size.dim_param or "?" for size in sizes]
    if not shape or any(isinstance(size, str) for size in shape[1:]):
        raise ProblemError(f"leaves its input size open ({' x '.join(map(str, shape))}); export it with a fixed size")
    if not isinstance(shape[0], str):
        if shape[0] != 1:
            raise ProblemError(f"was exported for batches of {shape[0]}; export it with an example input of batch 1")
        return []
    for value in (image, *model.graph.output):
        dimensions = value.type.tensor_type.shape.dim
        if dimensions and not dimensions[0].dim_value:
            dimensions[0].dim_value = 1
    del model.graph.value_info[:]  # shapes inferred from the open batch size
    return [_BATCH]


def _start(arguments: Sequence[str]) -> None:
    folder = Path(__file__).resolve().parent
    # Python puts the folder of a program first on its path; this folder's modules must not hide others of their names.
    sys.path[:] = [entry for entry in sys.path if Path(entry or ".").resolve() != folder]
    main(*arguments)


if __name__ == "__main__":
    _start(sys.argv[1:])
