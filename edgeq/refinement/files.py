"""Refining from file to file: with the metadata of the INT8 file, and a record of what was done to it."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.calibration import CalibrationSet, CalibrationSource, choose_images, require_images
from edgeq.comparison.pair import open_both
from edgeq.files import replacing
from edgeq.progress import Progress, no_progress
from edgeq.refinement.refine import METHODS, Refinement, refine_model
from edgeq.runtime import Model, available_cores
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, Overrides

__all__ = ["RefinedModel", "refine", "refine_content"]


@dataclass(frozen=True)
class RefinedModel:
    """A refined .tflite file that was written.

    Attributes:
        path: of the file.
        refinement: how it went; where it did not help, the file is the candidate as it was, but for the record.
        calibration: the images that it was refined and checked on.
        notes: what a reader should know about the two models; a list of sentences.
    """

    path: Path
    refinement: Refinement
    calibration: CalibrationSet
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data: the path, and what was measured."""
        return {"path": str(self.path), **self.refinement.to_json()}


def refine(
    reference: str | Path,
    candidate: str | Path,
    out: str | Path | None = None,
    *,
    calibration: CalibrationSource = None,
    count: int = 100,
    seed: int = 0,
    bias_only: bool = False,
    runtime: str | None = None,
    overrides: Overrides | None = None,
    progress: Progress = no_progress,
) -> RefinedModel:
    """Refine an INT8 file, made by whichever tool, so that it agrees better with its float file.

    Layer after layer, weights are rounded again, ranges narrowed and biases corrected. The file keeps its operators
    and its speed. One image in five is kept for checking: where the result is not better on those, the numbers stay
    as they are. `edgeq.convert` does the same by itself.

    Args:
        reference: the float .tflite file.
        candidate: the INT8 file that was made from it; it is only read, unless it is `out` too.
        out: the file to write; None takes the candidate's name with ``_refined``, beside it.
        calibration: the images: a folder, a list of image files, a set made before, or None for those that come with
            edgeq. Best are photos like those that the model will see, never those that it is compared on.
        count: how many of the images to take.
        seed: of the choice.
        bias_only: whether to correct the biases and leave weights and ranges as they are.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None takes ``EDGEQ_RUNTIME`` or the fastest.
        overrides: what the caller knows better than the files, for both.
        progress: called with (stage, done, total).

    Returns:
        What was written, and how it went.

    Raises:
        InputError: the models do not correspond, there are too few images, or the file cannot be written.
        ModelError: one of the files is not an image classifier, or the runtime does not support it.
    """
    require_images(calibration)
    models = open_both(reference, candidate, runtime, overrides)
    chosen = choose_images(calibration, models[1].preprocessing, count, seed, progress)
    methods = () if bias_only else METHODS
    content, refinement = refine_content(models[0], models[1], chosen, methods=methods, progress=progress)
    target = Path(out) if out else Path(candidate).with_name(f"{Path(candidate).stem}_refined.tflite")
    with replacing([target]) as (part,):
        part.write_bytes(content)
    return RefinedModel(target, refinement, chosen, tuple(models[2]))


def refine_content(
    reference: Model,
    candidate: Model,
    calibration: CalibrationSet,
    *,
    methods: Collection[str] = METHODS,
    progress: Progress = no_progress,
) -> tuple[bytes, Refinement]:
    """Refine an INT8 model on all cores, and record in its metadata what was done to it.

    Args:
        reference: the float model.
        candidate: the INT8 model that was made from it.
        calibration: images as both see them.
        methods: some of `METHODS`; none corrects the biases alone.
        progress: called with (stage, done, total).

    Returns:
        The content of the file: the better one of the two INT8 models, before and after; and how it went. A file of
        another tool changes in its numbers alone.

    Raises:
        InputError: the models do not correspond, or there are too few images.
        ModelError: the runtime does not support a part of a model.
    """
    content, refinement = refine_model(
        reference, candidate, calibration.pixels, methods=methods, threads=available_cores(), progress=progress
    )
    metadata = candidate.metadata
    if metadata.provenance:
        from edgeq.tflite.metadata_writer import repack  # on a device there is nothing to write it with

        record = refinement.to_json()
        seen = sorted({digest[:FINGERPRINT_LENGTH] for digest in calibration.digests} - metadata.calibrated_on)
        if seen:  # other photos than it was calibrated on: a comparison must know them, though the file grows
            record["fingerprints"] = seen
        content = repack(content, replace(metadata, provenance=metadata.provenance | {"refinement": record}))
    return content, refinement
