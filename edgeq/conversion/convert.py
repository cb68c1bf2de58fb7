"""Convert a Keras model, a SavedModel or a network to verified .tflite files."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeq.calibration import (
    CalibrationSet,
    CalibrationSource,
    SampleSet,
    choose_images,
    choose_samples,
    require_images,
)
from edgeq.conversion.exporters import EXPORTED_SUFFIXES, export_tflite
from edgeq.conversion.float_file import FloatFile, open_float_file
from edgeq.conversion.formats import FORMATS, IO_TYPES
from edgeq.conversion.keras_export import export_keras, is_keras
from edgeq.conversion.mixed import AUTO, KeepFloat
from edgeq.conversion.pipeline import convert_network
from edgeq.conversion.writer import ConvertedModel
from edgeq.errors import EdgeqError, InputError
from edgeq.files import temporary_folder
from edgeq.inspection import TargetReport, check_target, require_target
from edgeq.networks import Network, open_network
from edgeq.preprocessing import Preprocessing, parse_normalization
from edgeq.progress import Progress, no_progress
from edgeq.quiet import heard, quiet
from edgeq.samples import holds_arrays
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import Overrides, read_labels
from edgeq.tflite.task import TENSORS

__all__ = ["Conversion", "convert"]

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Conversion:
    """The files that a conversion wrote and verified, and the facts that hold for all of them.

    Attributes:
        models: the files by format, the float32 reference first.
        preprocessing: how images become the models' input; None if they take no images.
        classes: the number of classes; 0 for models that are no classifiers.
        labels: the classes' names, one per class, or empty.
        calibration: the representative dataset; None if no format needs one.
        remarks: notes on the choices that edgeq made for the user; each is a sentence.
    """

    models: dict[str, ConvertedModel]
    preprocessing: Preprocessing | None
    classes: int
    labels: tuple[str, ...]
    calibration: CalibrationSet | SampleSet | None
    remarks: tuple[str, ...]

    @property
    def has_obstacles(self) -> bool:
        """Whether some requested target does not support one of the files."""
        return any(report.obstacles for model in self.models.values() for report in model.targets)


def convert(
    source: str | Path | Network | Callable[[], Network],
    formats: str | Sequence[str] = ("int8",),
    out: str | Path = "models",
    *,
    calibration: CalibrationSource = None,
    count: int = 100,
    seed: int = 0,
    size: tuple[int, int] | None = None,
    normalize: str | None = None,
    channels: str | None = None,
    crop: float | None = None,
    task: str | None = None,
    labels: str | Path | Sequence[str] = (),
    io: str = "int8",
    logits: bool = False,
    refine: bool = True,
    keep_float: Sequence[str | int] = (),
    min_agreement: float = 0.99,
    targets: Sequence[str] = (),
    verbose: bool = False,
    progress: Progress = no_progress,
) -> Conversion:
    """Convert a float network to TFLite, quantize it, and verify each file in the runtime.

    The float32 reference, ``NAME_fp32.tflite``, is always written as well. Labels, preprocessing and provenance are
    stored inside the files. Existing files are replaced only after every format has been converted and verified. The
    same arguments produce bit-identical files.

    Args:
        source: a Keras model (.keras or .h5), a SavedModel folder, a float32 .tflite file, a program of torch.export
            (.pt2), an ONNX file (.onnx), a network from `build_network` or `open_network`, or a function that returns a
            network. The function is called after the other arguments have been checked.
        formats: one or several names in ``edgeq.conversion.FORMATS``: ``int8``, ``fp16``, ``dynamic``, ``int16x8``.
        out: folder for the files.
        calibration: calibration images for ``int8`` and ``int16x8``: a folder, a list of image files, an existing set,
            or None for the images that come with edgeq. Best are photos like those that the model will see. For models
            of plain tensors ``.npz`` or ``.npy`` files: a folder, a list, or one file.
        count: number of calibration images to choose.
        seed: random seed for choosing them.
        size: (height, width) of the input in pixels, for a source that does not fix them.
        normalize: normalization of pixel values: ``-1..1``, ``0..1``, ``0..255``, ``imagenet``, or ``MEAN/STD`` in
            pixel values; None to use what the network states.
        channels: ``RGB`` or ``BGR``; None to use what the network states, else RGB.
        crop: side of the centre crop, as a fraction of the largest box that fits into the image, in (0, 1]; None to use
            what the network states, else the default for the input's size.
        task: ``classification``, or ``tensors`` for a model that is no image classifier, see `edgeq.TensorModel`; None
            for ``tensors`` if the model cannot be a classifier or the calibration data are arrays. Models of plain
            tensors must come as .tflite, .pt2 or .onnx files.
        labels: the classes' names, one per class; or a text file with one per line; or a folder with one sub-folder per
            class; empty to use the network's labels.
        io: type of the INT8 file's input and output: ``int8``, ``uint8`` or ``float32``.
        logits: whether to remove the softmax or sigmoid at the end.
        refine: whether to refine the INT8 file, see `edgeq.refine`.
        keep_float: operators of the INT8 file to leave in float: numbers or names, as `edgeq compare --layers` prints
            them; or ``auto``, those where INT8 fails most, until the file agrees well enough; or ``unsupported``, those
            that cannot be quantized.
        min_agreement: for ``keep_float="auto"``, the share of the held-out calibration images on which the top-1 class
            must be that of the float model, in [0, 1].
        targets: names in ``edgeq.inspection.TARGETS``: where the files are to run. The converter avoids what these do
            not support where it can; what remains unsupported is in ``models[...].targets``.
        verbose: whether to let TensorFlow print its messages.
        progress: called with (stage, done, total).

    Returns:
        The files, and the facts that hold for all of them.

    Raises:
        InputError: an argument is invalid, or a file or folder is unusable.
        ConversionError: the converter does not support the network, or a file failed its verification.
        EdgeqError: TensorFlow is not installed.
    """
    formats = (formats,) if isinstance(formats, str) else tuple(formats)
    # Check all arguments before TensorFlow, which takes seconds to load.
    calibrated = _require_known(formats, io, targets)
    overrides = Overrides(parse_normalization(normalize) if normalize else None, channels, crop)
    if holds_arrays(calibration):
        task = task or TENSORS
    elif calibrated:
        require_images(calibration)
    names = read_labels(labels) if isinstance(labels, str | Path) else tuple(labels)
    progress = heard(progress)
    with quiet(verbose):
        network = _network(source, size, overrides, task, verbose, progress)
    reader = network.reader if isinstance(network, FloatFile) else None
    if reader is not None:
        _refuse_for_tensors(network.name, names, logits, keep_float)
    if names and len(names) != network.classes:
        what = f"{labels}: has {len(names)}" if isinstance(labels, str | Path) else f"{len(names)}"
        raise InputError(f"{what} labels, but {network.name} has {network.classes} classes")
    name = str(source) if isinstance(source, str | Path) else network.name
    preprocessing = network.preprocessing_with(overrides, name)
    chosen: CalibrationSet | SampleSet | None = None
    if calibrated and reader is not None:
        assert not isinstance(calibration, CalibrationSet)
        chosen = choose_samples(calibration, reader, count, seed, progress)
    elif calibrated:
        assert preprocessing is not None
        chosen = choose_images(calibration, preprocessing, count, seed, progress, network.held_out)
    models = convert_network(
        network,
        preprocessing,
        formats,
        out,
        calibration=chosen,
        io=io,
        labels=names,
        logits=logits,
        refine=refine,
        keep_float=KeepFloat(_as_names(keep_float), min_agreement),
        targets=targets,
        verbose=verbose,
        progress=progress,
    )
    if targets:
        checked = models[1:] or models  # the float32 reference is not deployed, unless it is the only file
        models = [replace(model, targets=_reports(model, targets)) if model in checked else model for model in models]
    for remark in (*network.remarks, *(model.remark for model in models if model.remark)):
        _log.info("%s: %s", network.name, remark)
    by_format = {model.format: model for model in models}
    return Conversion(by_format, preprocessing, network.classes, names or network.labels, chosen, network.remarks)


def _refuse_for_tensors(
    name: str, labels: Sequence[str], logits: bool, keep_float: str | int | Sequence[str | int]
) -> None:
    """Raise an InputError for options that have no meaning for a model of plain tensors."""
    if labels or logits:
        raise InputError(f"{name}: is no image classifier, so it has no labels and no logits")
    if AUTO in _as_names(keep_float):
        raise InputError(f"{name}: --keep-float auto is only for image classifiers; name the operators")


def _as_names(operators: str | int | Sequence[str | int]) -> tuple[str, ...]:
    """Return operators as a tuple of text."""
    return tuple(map(str, (operators,) if isinstance(operators, str | int) else operators))


def _require_known(formats: Sequence[str], io: str, targets: Sequence[str]) -> bool:
    """Raise an InputError for an unknown name; return whether a format needs calibration images."""
    for what, name, known in (*(("format", name, FORMATS) for name in formats), ("io", io, IO_TYPES)):
        if name not in known:
            raise InputError(f"{what} {name!r}: must be one of {', '.join(known)}")
    for target in targets:
        require_target(target)
    return any(FORMATS[name].calibrated for name in formats)


def _network(
    source: str | Path | Network | Callable[[], Network],
    size: tuple[int, int] | None,
    overrides: Overrides,
    task: str | None,
    verbose: bool,
    progress: Progress,
) -> Network | FloatFile:
    """Open the source, or call the function that makes the network."""
    if isinstance(source, Network):
        return source
    if isinstance(source, str | Path) and Path(source).suffix.lower() == ".tflite":
        return open_float_file(source, overrides, size, task)
    if isinstance(source, str | Path) and Path(source).suffix.lower() in EXPORTED_SUFFIXES:
        progress("Exporting to TFLite", 0, 1)
        return _exported(Path(source), overrides, size, task, verbose)
    if task == TENSORS:
        if not isinstance(source, str | Path) or not is_keras(source):
            raise InputError(f"{source}: is no Keras model, SavedModel, or float .tflite, .pt2 or .onnx file")
        progress("Exporting to TFLite", 0, 1)
        return _exported(Path(source), overrides, size, task, verbose)
    progress("Loading TensorFlow", 0, 1)
    return open_network(source, size) if isinstance(source, str | Path) else source()


def _exported(
    source: Path, overrides: Overrides, size: tuple[int, int] | None, task: str | None, verbose: bool
) -> FloatFile:
    """Export a PyTorch, ONNX or Keras network to a temporary float .tflite file, and open that."""
    with temporary_folder() as folder:
        file = folder / f"{source.stem}.tflite"
        remarks: tuple[str, ...] = ()
        if source.suffix.lower() in EXPORTED_SUFFIXES:
            remarks = export_tflite(source, file, verbose=verbose)
        else:
            export_keras(source, file, verbose=verbose)
        try:
            opened = open_float_file(file, overrides, size, task)
        except EdgeqError as error:  # its message names the temporary file
            raise type(error)(str(error).replace(str(file), str(source))) from None
    return opened.exported_from(source, remarks)


def _reports(model: ConvertedModel, targets: Sequence[str]) -> tuple[TargetReport, ...]:
    """Check a file against the targets."""
    graph = read_graph(model.path)
    return tuple(check_target(graph, target) for target in targets)
