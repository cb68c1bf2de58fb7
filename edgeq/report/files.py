"""Written files (models, bundles, calibration images), as lines of text."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from edgeq.images import NOT_AN_IMAGE, skipped_note
from edgeq.report.tables import size

if TYPE_CHECKING:
    from edgeq.bundling import Bundle
    from edgeq.calibration import CalibrationSet, SampleSet, SyntheticSet
    from edgeq.conversion import Conversion, ConvertedModel
    from edgeq.refinement import RefinedModel, Refinement

__all__ = [
    "bundle_lines",
    "conversion_lines",
    "refined_lines",
    "refinement_line",
    "skipped_lines",
    "synthetic_set_lines",
]

_MOST_LAYERS_SHOWN = 3
_MOST_SKIPPED_SHOWN = 10


def conversion_lines(conversion: Conversion) -> list[str]:
    """Format the files of a conversion, their calibration and refinement, and what the targets do not support."""
    from edgeq.report.inspection import target_lines

    models, preprocessing = conversion.models.values(), conversion.preprocessing
    width = max(len(str(model.path)) for model in models)
    lines = [f"{m.path!s:<{width}}  {size(m.size_bytes):>9}  {_description(m)}" for m in models]
    if preprocessing is not None:
        low, high = preprocessing.real_range
        lines.append(
            f"Input: {preprocessing.width}x{preprocessing.height} {preprocessing.channels}, pixels normalized to "
            f"{low:.4g}..{high:.4g}."
        )
    lines += conversion.remarks
    if conversion.calibration is not None:
        lines += _calibration_lines(conversion.calibration)
    for model in models:
        if model.refinement is not None:
            lines.append(refinement_line(model.refinement))
        lines += _kept_float_lines(model)
        if model.remark:
            lines.append(f"{model.path.name}: {model.remark}.")
    if conversion.classes and not conversion.labels:
        lines.append(
            f"No labels: predictions are class numbers (0 to {conversion.classes - 1}). Name the classes with --labels."
        )
    for model in models:
        for report in model.targets:
            lines += ["", model.path.name, *target_lines(report)]
    return lines


def _description(model: ConvertedModel) -> str:
    """Describe a file's format, and how many operators of an INT8 file are in float."""
    from edgeq.conversion import FORMATS

    count = len(model.float_operators)
    if not count:
        return FORMATS[model.format].description
    return f"INT8, {count} {'operator' if count == 1 else 'operators'} in float"


def _kept_float_lines(model: ConvertedModel) -> list[str]:
    """List the operators that were left in float: what that reduced, and what it costs."""
    return [
        f"In float: {', '.join(step.operators)}. Mean L1 {step.error_before:.4f} before, {step.error_after:.4f} after "
        f"(without refinement); {step.latency_ms:+.2f} ms, {step.size_bytes / 1e6:+.2f} MB."
        for step in model.kept_float
    ]


def refined_lines(refined: RefinedModel) -> list[str]:
    """Format a refined file, the effect of the refinement, and notes."""
    notes = [f"Note: {note}." for note in refined.notes]
    lines = [str(refined.path), refinement_line(refined.refinement), *notes]
    return [*lines, *skipped_lines(refined.calibration.skipped)]


def bundle_lines(bundle: Bundle) -> list[str]:
    """Format a bundle's path, size and number of files."""
    return [f"{bundle.path}  {size(bundle.size_bytes)}, {len(bundle.files)} files; self-test passed on this machine"]


def synthetic_set_lines(made: SyntheticSet) -> list[str]:
    """Describe the synthesis: the number of images, and the distance of their statistics."""
    spec = made.preprocessing
    return [
        f"{made.folder}: {made.count} images of {spec.width}x{spec.height} {spec.channels}",
        f"Their statistics differ by {made.distance:.2f} standard deviations from those stored in {made.source.name}.",
    ]


def refinement_line(refinement: Refinement) -> str:
    """Describe a refinement, and the layers that were not refined."""
    before, after = f"{refinement.error_before:.4f}", f"{refinement.error_after:.4f}"
    data, measure = ("images", "Mean L1 of the probabilities")
    if refinement.measure != "l1":
        data, measure = ("samples", "Error of the outputs")
    measured = (
        f"{measure} on {refinement.checked_on} held-out {data}: {before} before, {after} after; on "
        f"the others: {refinement.fitted_error_before:.4f} before, {refinement.fitted_error_after:.4f} after."
    )
    if not refinement.kept:
        return f"Kept the unrefined model, because refinement made it worse. {measured}"
    text = f"Refined on {refinement.images} {data}. {measured}"
    skipped = refinement.skipped_layers
    if skipped:
        noun = "1 layer is" if len(skipped) == 1 else f"{len(skipped)} layers are"
        more = ", ..." if len(skipped) > _MOST_LAYERS_SHOWN else ""
        text += f" {noun} not refined: {', '.join(skipped[:_MOST_LAYERS_SHOWN])}{more}."
    return text


def skipped_lines(skipped: Sequence[tuple[Path, str]]) -> list[str]:
    """List the first skipped images, each with its reason, and count the files that are not images."""
    images = [(path, reason) for path, reason in skipped if reason != NOT_AN_IMAGE]
    lines = [f"Skipped {len(images)} files:"] if images else []
    lines += [f"  {path}: {reason}" for path, reason in images[:_MOST_SKIPPED_SHOWN]]
    if len(images) > _MOST_SKIPPED_SHOWN:
        lines.append(f"  ... and {len(images) - _MOST_SKIPPED_SHOWN} more")
    others = len(skipped) - len(images)
    return [*lines, f"{skipped_note(others).capitalize()}."] if others else lines


def _calibration_lines(calibration: CalibrationSet | SampleSet) -> list[str]:
    """Describe the calibration: the number of images or samples, their source, and those that could not be read."""
    from edgeq.calibration import SampleSet, shipped_images

    if isinstance(calibration, SampleSet):
        source = f" from {calibration.folder}" if calibration.folder else ""
        line = f"Calibrated on {len(calibration.samples)} samples{source} (seed {calibration.seed})."
        return [line, *skipped_lines(calibration.skipped)]
    count = len(calibration.files)
    if calibration.folder == shipped_images():
        images = f"{count} bundled images"
    else:
        images = f"{count} images" + (f" from {calibration.folder}" if calibration.folder else "")
    line = f"Calibrated on {images} (seed {calibration.seed})."
    return [line, *skipped_lines(calibration.skipped)]
