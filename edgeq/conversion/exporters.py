"""Export PyTorch and ONNX networks to float .tflite files, with the tools made for them.

litert-torch exports a saved program of ``torch.export`` (.pt2), onnx2tf an ONNX file. Both run in a separate process
(`edgeq.conversion.exporter_process`): they import PyTorch or TensorFlow, print much, and may end their process. Their
requirements often conflict with other packages, so each tool may also be installed in a separate environment whose
command (``litert-torch``, ``onnx2tf``) is on the PATH.
"""

from __future__ import annotations

import importlib.util
import json
import logging
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.conversion import exporter_process
from edgeq.errors import ConversionError, EdgeqError, InputError, ModelError, how_it_ended, one_line
from edgeq.files import replacing, temporary_folder
from edgeq.tflite.checking import check_header

__all__ = ["EXPORTED_SUFFIXES", "export_tflite"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Tool:
    """A tool that exports networks to .tflite.

    Attributes:
        form: the format that it reads, as `edgeq.conversion.exporter_process` names it.
        name: the name of its package and command.
        module: the module to import.
        install: how to install it. onnx2tf 2 cannot share an environment with ai-edge-quantizer, because each requires
            a certain version of ai-edge-litert. onnx2tf 1 downloads a file for each export.
    """

    form: str
    name: str
    module: str
    install: str


_TOOLS = {
    ".pt2": _Tool("torch", "litert-torch", "litert_torch", "pip install 'edgeq[torch]', or pipx install litert-torch"),
    ".onnx": _Tool("onnx", "onnx2tf", "onnx2tf", "pipx install 'onnx2tf>=2.6' (Python 3.12 or newer)"),
}
_WEIGHTS_SUFFIXES = (".pt", ".pth", ".ckpt", ".safetensors")
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")

EXPORTED_SUFFIXES = tuple(_TOOLS)
"""Suffixes of the files that `export_tflite` reads."""


def export_tflite(source: str | Path, out: str | Path, *, verbose: bool = False) -> tuple[str, ...]:
    """Export a PyTorch or ONNX network to a float32 .tflite file.

    The file has batch size 1. A 4-D input becomes channels last (NHWC). `out` is replaced only on success.

    Args:
        source: a program that ``torch.export.save`` saved (.pt2), or an ONNX file (.onnx), with one float32 input of
            fixed size. A .pt2 file can contain code that runs when it is loaded: open only files that you trust.
        out: the .tflite file to write.
        verbose: whether to let the tool print its messages.

    Returns:
        Remarks on what was changed; each is a sentence.

    Raises:
        InputError: the source does not exist or has another suffix, or the file cannot be written.
        ModelError: the source is damaged, or is unsuitable; the message says how to export it instead.
        ConversionError: the tool does not support the network.
        EdgeqError: the tool is not installed.
    """
    source, out = Path(source), Path(out)
    tool = _tool_for(source)
    python = _python_with(tool, source)
    with replacing([out]) as (part,), temporary_folder() as folder:
        answer = _run(tool, python, source, part, folder, verbose)
        if problem := answer.get("problem"):
            raise ModelError(f"{source}: {one_line(problem, 300)}")
        if failure := answer.get("failure"):
            raise ConversionError(f"{source}: {tool.name} cannot export it: {one_line(failure)}")
        try:
            check_header(part.read_bytes()[:8], part)
        except (OSError, ModelError):
            raise ConversionError(f"{source}: {tool.name} did not write a .tflite file") from None
    remarks = tuple(answer["remarks"])
    for remark in remarks:
        _log.info("%s: %s", source.name, remark)
    return remarks


def _tool_for(source: Path) -> _Tool:
    """Return the tool that reads a file, judging by its suffix."""
    suffix = source.suffix.lower()
    if suffix in _WEIGHTS_SUFFIXES:
        raise InputError(
            f"{source}: contains weights or a pickled module; save an exported program in PyTorch: torch.export.save("
            f"torch.export.export(model.eval(), (torch.rand(1, 3, 224, 224),)), '{source.stem}.pt2')"
        )
    if suffix not in _TOOLS:
        raise InputError(f"{source}: neither a program of torch.export (.pt2) nor an ONNX file (.onnx)")
    if not source.is_file():
        raise InputError(f"{source}: no such model")
    return _TOOLS[suffix]


def _python_with(tool: _Tool, source: Path) -> str:
    """Return the Python interpreter that has a tool: this one, or that of the tool's command."""
    if importlib.util.find_spec(tool.module) is not None:
        return sys.executable
    if command := shutil.which(tool.name):
        python = Path(command).resolve().with_name("python")
        if os.access(python, os.X_OK):
            return str(python)
    raise EdgeqError(
        f"{source}: needs {tool.name}, which is not installed: {tool.install}; or export it to .tflite elsewhere, and "
        "convert that file"
    )


def _run(tool: _Tool, python: str, source: Path, out: Path, folder: Path, verbose: bool) -> dict[str, Any]:
    """Run the tool in a separate process; return its report."""
    report, log = folder / "report.json", folder / "log"
    command = [python, exporter_process.__file__, tool.form, str(source.resolve()), str(out.resolve()), str(report)]
    # onnx2tf runs other commands of its environment.
    path = os.pathsep.join([str(Path(python).parent), os.environ.get("PATH", "")])
    variables = {**os.environ, "PATH": path, "TF_CPP_MIN_LOG_LEVEL": "3", "TMPDIR": str(folder)}
    if python != sys.executable:
        variables.pop("PYTHONPATH", None)  # may hold packages for this Python, such as another NumPy
    with log.open("wb") as stream:
        output = 2 if verbose else stream  # not standard output, which may be the command's JSON
        done = subprocess.run(
            command, env=variables, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False
        )
    try:
        answer: dict[str, Any] = json.loads(report.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # the tool ended the process
        reason = _last_line(log.read_text(encoding="utf-8", errors="replace"))
        raise ConversionError(
            f"{source}: {tool.name} {how_it_ended(done.returncode)}" + (f": {one_line(reason)}" if reason else "")
        ) from None
    return answer


def _last_line(log: str) -> str:
    """Return the last line of a log that states an error, or else its last line."""
    lines = [_COLOUR.sub("", line).strip() for line in log.splitlines()]
    lines = [line for line in lines if line]
    errors = [line for line in lines if re.match(r"(ERROR|\w+Error)\b", line)]
    return (errors or lines or [""])[-1].removeprefix("ERROR:").strip()
