"""Turn a network and its calibration set into files: convert, add metadata, verify, refine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgeq.calibration import CalibrationSet
from edgeq.conversion.formats import FORMATS, Format
from edgeq.errors import ConversionError, EdgeqError
from edgeq.files import replacing, sha256_of_file
from edgeq.inspection import TargetReport
from edgeq.networks import Network
from edgeq.networks.network import tool_versions
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress, no_progress
from edgeq.quiet import quiet
from edgeq.refinement import Refinement, refine_content
from edgeq.runtime import Model, installed_runtimes
from edgeq.tflite.metadata import ModelMetadata
from edgeq.tflite.output_kind import read_output_kind

__all__ = ["ConvertedModel", "convert_network"]


@dataclass(frozen=True)
class ConvertedModel:
    """A .tflite file that was written and verified.

    Attributes:
        path: the file.
        format: the name of the file's format in ``edgeq.conversion.FORMATS``.
        size_bytes: the file's size in bytes.
        refinement: the result of refining the file; None if it was not refined.
        remark: why the file could not be refined, or empty.
        targets: one report per requested target; empty for the float32 reference, unless it is the only file.
    """

    path: Path
    format: str
    size_bytes: int
    refinement: Refinement | None = None
    remark: str = ""
    targets: tuple[TargetReport, ...] = ()


def convert_network(
    network: Network,
    preprocessing: Preprocessing,
    formats: Sequence[str],
    out: str | Path,
    *,
    calibration: CalibrationSet | None = None,
    io: str = "int8",
    labels: Sequence[str] = (),
    refine: bool = True,
    logits: bool = False,
    targets: Sequence[str] = (),
    verbose: bool = False,
    progress: Progress = no_progress,
) -> list[ConvertedModel]:
    """Convert a network to .tflite files, verify each in the runtime, and write them all or none.

    The float32 reference is always among them. Files are named ``{network.name}_{format}.tflite``.

    Args:
        network: the network to convert.
        preprocessing: how images become the network's input; it is stored in the files.
        formats: names in ``edgeq.conversion.FORMATS``.
        out: folder for the files; existing files of the same name are replaced.
        calibration: the representative dataset, needed for ``int8`` and ``int16x8``.
        io: type of the INT8 file's input and output: ``int8``, ``uint8`` or ``float32``.
        labels: the classes' names, one per class; empty to use the network's labels.
        refine: whether to refine the INT8 file, see :mod:`edgeq.refinement`.
        logits: whether to remove the softmax or sigmoid at the end, so that the models output logits.
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
    from edgeq.conversion.converter import freeze
    from edgeq.conversion.verification import verify
    from edgeq.tflite.metadata_writer import pack

    wanted = [form for name, form in FORMATS.items() if name == "fp32" or name in formats]
    for form in wanted:
        if form.calibrated and calibration is None:
            raise ConversionError(f"{network.name}: {form.name} needs a calibration set")
    labels = tuple(labels or network.labels)
    paths = [Path(out) / f"{network.name}_{form.name}.tflite" for form in wanted]
    grey = np.full((network.height, network.width, network.channels), 128, np.uint8)
    pixels = calibration.pixels[0] if calibration else grey
    models = []
    with replacing(paths) as parts:
        with quiet(verbose):
            progress("Preparing the network", 0, 1)
            frozen = freeze(network, logits)
        kind = reference_sha256 = None
        for form, path, part in zip(wanted, paths, parts, strict=True):
            progress(f"Converting to {form.name}", 0, 1)
            with quiet(verbose):
                flatbuffer = frozen.to_tflite(form, io, calibration, preprocessing, progress, targets)
            progress(f"Verifying {form.name}", 0, 1)
            if kind is None:  # the float32 reference comes first; its graph shows what the outputs are
                part.write_bytes(flatbuffer)
                kind = read_output_kind(part)
            provenance = _provenance(network, form, io, calibration)
            if reference_sha256:
                provenance["reference_sha256"] = reference_sha256
            metadata = ModelMetadata(labels, preprocessing, kind, provenance)
            part.write_bytes(pack(flatbuffer, path.stem, metadata))
            verify(part, path.name, form, io, pixels)
            reference_sha256 = reference_sha256 or sha256_of_file(part)
            refinement, remark = None, ""
            if form.name == "int8" and refine and calibration is not None:
                refinement, remark = _refine(parts[0], part, calibration, progress)
                for unfinished, finished in zip(parts, paths, strict=True):
                    remark = remark.replace(str(unfinished), finished.name)
            models.append(ConvertedModel(path, form.name, part.stat().st_size, refinement, remark))
    return models


def _refine(
    reference: Path, part: Path, calibration: CalibrationSet, progress: Progress
) -> tuple[Refinement | None, str]:
    """Refine a converted INT8 file in place; return the result, or why the network cannot be refined."""
    runtime = installed_runtimes()[0]
    try:
        models = Model(reference, runtime=runtime), Model(part, runtime=runtime)
        content, refinement = refine_content(*models, calibration, progress=progress)
    except EdgeqError as error:
        return None, f"not refined: {error}"
    part.write_bytes(content)
    return refinement, ""


def _provenance(network: Network, form: Format, io: str, calibration: CalibrationSet | None) -> dict[str, Any]:
    """Return how a file was made, without times and paths, so that the same inputs produce bit-identical files."""
    provenance: dict[str, Any] = {
        "network": network.name,
        "format": form.name,
        "parent": network.parent,
        "tools": tool_versions(),
    }
    if form.name == "int8":
        provenance["io"] = io
        provenance["refinement"] = None
    if form.calibrated and calibration is not None:
        provenance["calibration"] = calibration.provenance()
    return provenance
