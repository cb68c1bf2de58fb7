"""Refine an INT8 file: read both models, and write the refined one with its metadata and a record of the refinement."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgeq.calibration import (
    CalibrationSet,
    CalibrationSource,
    SampleSet,
    choose_images,
    choose_samples,
    require_images,
)
from edgeq.comparison.pair import open_both
from edgeq.comparison.tensor_pair import open_tensor_models
from edgeq.files import replacing
from edgeq.progress import Progress, no_progress
from edgeq.refinement.observation import Observation
from edgeq.refinement.refine import refine_model
from edgeq.refinement.result import METHODS, Refinement
from edgeq.runtime import Model, TensorModel, available_cores
from edgeq.runtime.admission import remember_written
from edgeq.samples import holds_arrays
from edgeq.tflite.metadata import FINGERPRINT_LENGTH, Overrides
from edgeq.tflite.task import TENSORS, read_task

__all__ = ["RefinedModel", "refine", "refine_content"]


@dataclass(frozen=True)
class RefinedModel:
    """A refined .tflite file that was written.

    Attributes:
        path: the file. If refining did not help, it is the unchanged candidate, with a record of the attempt.
        refinement: the result of refining.
        calibration: the images or samples that the model was refined and checked on.
        notes: notes on the two models; each is a sentence.
    """

    path: Path
    refinement: Refinement
    calibration: CalibrationSet | SampleSet
    notes: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain JSON data: the path and the refinement's attributes."""
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
    task: str | None = None,
    progress: Progress = no_progress,
) -> RefinedModel:
    """Refine an INT8 file, made by any converter, so that it agrees better with the float file it was made from.

    Layer by layer, the weights are rounded by GPTQ, their scales and the biases are corrected, and the ranges of
    activations are fitted. The operators and the speed do not change. One image in five is held out. If the refined
    model is worse, by the mean of its errors on the held-out images and on the others, the file stays unchanged.
    `edgeq.convert` refines INT8 files by default.

    Args:
        reference: the float .tflite file.
        candidate: the INT8 file that was made from it; unchanged, unless it is also `out`.
        out: the file to write; None for ``NAME_refined.tflite`` beside the candidate ``NAME.tflite``.
        calibration: a folder of images, a list of image files, an existing set, or None for the images that come with
            edgeq. Best are photos like those that the model will see, but not those that it is evaluated on.
        count: number of images to choose.
        seed: random seed for choosing the images.
        bias_only: whether to correct the biases only, and leave weights and ranges unchanged.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        overrides: preprocessing and labels to use instead of both files'.
        task: ``classification`` or ``tensors``; None to read it from the reference. ``tensors`` if the calibration data
            are arrays, see `edgeq.samples.find_samples`.
        progress: called with (stage, done, total).

    Returns:
        The file that was written, and the result of refining.

    Raises:
        InputError: the models do not correspond, there are too few images, or the file cannot be written.
        ModelError: one of the files is not a model, or the runtime does not support it.
    """
    methods = () if bias_only else METHODS
    if read_task(reference, task or (TENSORS if holds_arrays(calibration) else None)) == TENSORS:
        assert not isinstance(calibration, CalibrationSet)
        pair = open_tensor_models(reference, candidate, runtime, overrides)
        samples = choose_samples(calibration, pair.reader, count, seed, progress)
        chosen: CalibrationSet | SampleSet = samples
        notes = pair.notes()
        content, refinement = refine_content(
            pair.reference, pair.candidate, samples, methods=methods, progress=progress
        )
    else:
        require_images(calibration)
        models = open_both(reference, candidate, runtime, overrides)
        notes = models[2]
        chosen = choose_images(calibration, models[1].preprocessing, count, seed, progress)
        content, refinement = refine_content(models[0], models[1], chosen, methods=methods, progress=progress)
    target = Path(out) if out else Path(candidate).with_name(f"{Path(candidate).stem}_refined.tflite")
    with replacing([target]) as (part,):
        part.write_bytes(content)
    remember_written(target)
    return RefinedModel(target, refinement, chosen, tuple(notes))


def refine_content(
    reference: Model | TensorModel,
    candidate: Model | TensorModel,
    calibration: CalibrationSet | SampleSet,
    *,
    methods: Collection[str] = METHODS,
    observation: Observation | None = None,
    progress: Progress = no_progress,
) -> tuple[bytes, Refinement]:
    """Refine an INT8 model on all cores, and record the refinement in its metadata.

    A file without edgeq's provenance gets no record.

    Args:
        reference: the float model.
        candidate: the INT8 model that was made from it.
        calibration: representative images, preprocessed for the models, or samples.
        methods: some of `METHODS`; if empty, only the biases are corrected.
        observation: see `refine_model`.
        progress: called with (stage, done, total).

    Returns:
        The content of the better INT8 model, refined or unchanged; and the result of refining.

    Raises:
        InputError: the models do not correspond, or there are too few images.
        ModelError: the runtime does not support a part of a model.
    """
    content, refinement = refine_model(
        reference,
        candidate,
        calibration.samples,
        methods=methods,
        observation=observation,
        threads=available_cores(),
        progress=progress,
    )
    metadata = candidate.metadata
    if metadata.provenance:
        from edgeq.tflite.metadata_writer import repack  # imported here: it needs flatbuffers, which devices lack

        record = refinement.to_json()
        seen = sorted({digest[:FINGERPRINT_LENGTH] for digest in calibration.digests} - metadata.calibrated_on)
        if seen:  # images that it was not calibrated on: a comparison must recognize them as well
            record["fingerprints"] = seen
        content = repack(content, replace(metadata, provenance=metadata.provenance | {"refinement": record}))
    return content, refinement
