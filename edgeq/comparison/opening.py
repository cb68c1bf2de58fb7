"""Opening two models that are meant to take the same images."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgeq.errors import UnknownNormalizationError
from edgeq.runtime.model import Model
from edgeq.tflite.metadata import Overrides

__all__ = ["open_both"]


def open_both(
    reference: str | Path, candidate: str | Path, runtime: str | None = None, overrides: Overrides | None = None
) -> tuple[Model, Model, list[str]]:
    """Open two models; one that does not say how its input is normalized takes it from the other.

    Args:
        reference: a .tflite file.
        candidate: another.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or None.
        overrides: what the caller knows better than the files, for both.

    Returns:
        Both, and what was done, a sentence each.

    Raises:
        ModelError: one cannot be loaded.
        UnknownNormalizationError: neither says how its input is normalized.
    """
    overrides = overrides or Overrides()
    models: list[Model] = []
    notes = []
    for path, other in ((reference, candidate), (candidate, reference)):
        try:
            models.append(Model(path, runtime=runtime, overrides=overrides))
        except UnknownNormalizationError:
            spec = Model(other, runtime=runtime, overrides=overrides).preprocessing
            borrowed = replace(overrides, normalization=(spec.mean, spec.std))
            models.append(Model(path, runtime=runtime, overrides=borrowed))
            notes.append(f"took the normalization of {path} from {other}")
    return models[0], models[1], notes
