"""Turn a network and its calibration set into files: convert, add metadata, verify, refine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.calibration import CalibrationSet, SampleSet
from edgeq.conversion.float_file import FloatFile
from edgeq.conversion.formats import FORMATS
from edgeq.conversion.mixed import KeepFloat
from edgeq.conversion.quantizer import require_ai_edge_quantizer
from edgeq.conversion.writer import ConvertedModel, Writer
from edgeq.errors import ConversionError, EdgeqError, InputError
from edgeq.execution.process import WorkerProcess
from edgeq.files import replacing
from edgeq.networks import Network
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress, no_progress
from edgeq.quiet import quiet
from edgeq.runtime.admission import remember_written, trusting

if TYPE_CHECKING:
    from edgeq.conversion.keras import FrozenNetwork

__all__ = ["convert_network"]

_NONE_IN_FLOAT = KeepFloat()


def convert_network(
    network: Network | FloatFile,
    preprocessing: Preprocessing | None,
    formats: Sequence[str],
    out: str | Path,
    *,
    calibration: CalibrationSet | SampleSet | None = None,
    io: str = "int8",
    labels: Sequence[str] = (),
    refine: bool = True,
    logits: bool = False,
    keep_float: KeepFloat = _NONE_IN_FLOAT,
    targets: Sequence[str] = (),
    verbose: bool = False,
    progress: Progress = no_progress,
) -> list[ConvertedModel]:
    """Convert a network to .tflite files, verify each in the runtime, and write them all or none.

    The float32 reference is always among them. Files are named ``{network.name}_{format}.tflite``.

    Args:
        network: the network to convert.
        preprocessing: how images become the network's input; it is stored in the files. None if the network takes no
            images.
        formats: names in ``edgeq.conversion.FORMATS``.
        out: folder for the files; existing files of the same name are replaced.
        calibration: the representative dataset, needed for ``int8`` and ``int16x8``.
        io: type of the INT8 file's input and output: ``int8``, ``uint8`` or ``float32``.
        labels: the classes' names, one per class; empty to use the network's labels.
        refine: whether to refine the INT8 file, see :mod:`edgeq.refinement`.
        logits: whether to remove the softmax or sigmoid at the end, so that the models output logits.
        keep_float: operators of the INT8 file to leave in float; ai-edge-quantizer then quantizes it.
        targets: names in ``edgeq.inspection.TARGETS``: where the files are to run. The converter avoids what these do
            not support where it can.
        verbose: whether to let TensorFlow print its messages.
        progress: called with (stage, done, total).

    Returns:
        The files in the order of `FORMATS`, the float32 reference first.

    Raises:
        ConversionError: the converter does not support the network, or a file failed its verification. No file is
            written or changed.
        InputError: the folder cannot be written to.
    """
    wanted = [form for name, form in FORMATS.items() if name == "fp32" or name in formats]
    for form in wanted:
        if form.calibrated and calibration is None:
            raise ConversionError(f"{network.name}: {form.name} needs a calibration set")
    if keep_float.operators:
        require_ai_edge_quantizer()
    paths = [Path(out) / f"{network.name}_{form.name}.tflite" for form in wanted]
    if isinstance(network, FloatFile) and any(path.exists() and path.samefile(network.path) for path in paths):
        raise InputError(f"{network.path}: is the source itself; give another folder with --out")
    # The files are edgeq's own, and verified: they need no trial.
    with WorkerProcess("the runtime") as worker, trusting(), replacing(paths) as parts:
        with quiet(verbose):
            progress("Preparing the network", 0, 1)
            frozen = _frozen(network, logits)
        writer = Writer(
            network=network,
            frozen=frozen,
            preprocessing=preprocessing,
            labels=tuple(labels or network.labels),
            calibration=calibration,
            io=io,
            refine=refine,
            keep_float=keep_float,
            targets=targets,
            verbose=verbose,
            progress=progress,
            worker=worker,
        )
        try:
            models = writer.write(wanted, paths, parts)
        except EdgeqError as error:
            error.args = (_with_final_names(str(error), parts, paths),)
            raise
    for path in paths:
        remember_written(path)
    return [replace(model, remark=_with_final_names(model.remark, parts, paths)) for model in models]


def _with_final_names(message: str, parts: Sequence[Path], paths: Sequence[Path]) -> str:
    """Name the finished files in a message instead of the unfinished ones."""
    for unfinished, finished in zip(parts, paths, strict=True):
        message = message.replace(str(unfinished), finished.name)
    return message


def _frozen(network: Network | FloatFile, logits: bool) -> FrozenNetwork | FloatFile:
    """Return the network as a graph that is ready for the converter."""
    if isinstance(network, FloatFile):
        return network.without_softmax() if logits else network
    from edgeq.conversion.keras import freeze  # imported here: only these networks need TensorFlow

    return freeze(network, logits)
