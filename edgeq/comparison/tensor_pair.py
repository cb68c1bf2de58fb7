"""A pair of models of plain tensors: open both, and match their inputs and outputs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from edgeq.errors import InputError
from edgeq.runtime import TensorModel, TensorSpec
from edgeq.samples import SampleReader
from edgeq.tflite.metadata import ModelMetadata, Overrides

__all__ = ["TensorPair", "open_tensor_models"]


@dataclass(frozen=True)
class TensorPair:
    """Two models whose inputs and outputs correspond and have the same names.

    Attributes:
        reference: the model to compare with, usually float32.
        candidate: the model to measure, usually INT8.
        reader: reads samples for both.
    """

    reference: TensorModel
    candidate: TensorModel
    reader: SampleReader

    def notes(self) -> list[str]:
        """Return notes on this pair of models; each is a sentence."""
        made_from = self.candidate.metadata.provenance.get("reference_sha256")
        formats = [model.metadata.provenance.get("format") for model in (self.reference, self.candidate)]
        if formats[0] not in (None, "fp32") and formats[1] == "fp32":
            return [f"the reference is {formats[0]} and the candidate fp32: are they the wrong way round?"]
        if made_from and made_from != self.reference.sha256:
            return ["the candidate was not made from this reference but from another network or conversion"]
        return []


def open_tensor_models(
    reference: str | Path, candidate: str | Path, runtime: str | None = None, overrides: Overrides | None = None
) -> TensorPair:
    """Open two models of plain tensors.

    Inputs and outputs correspond by name if both models use the same names, else by position. Both then have the
    reference's names.

    Args:
        reference: the reference's .tflite file.
        candidate: the candidate's .tflite file.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        overrides: preprocessing to use instead of the files', for models that take images.

    Raises:
        ModelError: a model cannot be loaded.
        InputError: the models' inputs or outputs do not correspond.
    """
    models = TensorModel(reference, runtime=runtime), TensorModel(candidate, runtime=runtime)
    names = []
    for what in ("inputs", "outputs"):
        expected, found = getattr(models[0], what), getattr(models[1], what)
        names.append(_matched(expected, found, what, f"{reference} and {candidate}"))
    preprocessing = models[0].metadata.preprocessing or models[1].metadata.preprocessing
    reader = SampleReader.of(reference, models[0].inputs, ModelMetadata(preprocessing=preprocessing), overrides)
    return TensorPair(models[0], models[1].renamed(*names), reader)


def _matched(expected: Sequence[TensorSpec], found: Sequence[TensorSpec], what: str, models: str) -> list[str]:
    """Return the reference's name of each of the candidate's inputs or outputs, in the candidate's order."""
    if len(expected) != len(found):
        raise InputError(f"{models}: have {len(expected)} and {len(found)} {what}, so they cannot be compared")
    shapes = {spec.name: spec.shape for spec in expected}
    same = {spec.name for spec in found} == shapes.keys()
    names = [spec.name if same else other.name for spec, other in zip(found, expected, strict=True)]
    for name, spec in zip(names, found, strict=True):
        if spec.shape != shapes[name]:
            raise InputError(f"{models}: {name} of their {what} has the shapes {shapes[name]} and {spec.shape}")
    return names
