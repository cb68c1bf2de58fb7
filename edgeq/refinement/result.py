"""The methods of refinement, and its result."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

__all__ = ["METHODS", "Refinement"]

METHODS = ("gain", "rounding", "compensation", "ranges")
"""Corrections that can be applied in addition to bias correction, which is always applied.

- ``gain``: scale correction, one factor on a layer's weight scales that corrects the slope of its outputs.
- ``rounding``: round the weights with GPTQ.
- ``compensation``: error compensation (QEP, GPTAQ). GPTQ then rounds weights that compensate for the errors of earlier
  layers, instead of the float weights. Has an effect only together with ``rounding``.
- ``ranges``: narrow the ranges of activations where clipping a few extreme values reduces the error. With any of these
  methods, ranges that the images exceed are widened.

Files store these names in their provenance."""


_CHANCE = {"l1": 1.05}
"""Ratios of the errors after and before refinement that may be due to chance, by measure.

A few uncertain images dominate a classifier's L1: on 100 images, the standard error of the ratio is 0.06 to 0.15
(docs/decisions.md)."""


@dataclass(frozen=True)
class Refinement:
    """The result of refining a model.

    Attributes:
        images: number of images that the model was refined on.
        checked_on: number of held-out images that the result was checked on.
        layers: number of layers that were corrected.
        methods: the corrections that were applied, ``bias`` first and then some of `METHODS`; fewer than requested if
            all of them together did not help.
        error_before: error of the INT8 model before refining, mean over the held-out images.
        error_after: the same error after refining.
        fitted_error_before: error before refining, mean over the images that the model was refined on.
        fitted_error_after: the same error after refining.
        measure: ``l1``, the L1 distance of the INT8 model's probabilities from the float model's, in 0..2; for models
            that are no classifiers ``error``, the norm of the difference of the outputs divided by the norm of the
            float model's outputs.
        kept: whether the refined model was not worse and is the result.
        skipped_layers: layers that cannot be refined and stay unchanged: index, operator and output of each.
    """

    images: int
    checked_on: int
    layers: int
    methods: tuple[str, ...]
    error_before: float
    error_after: float
    fitted_error_before: float
    fitted_error_after: float
    measure: str = "l1"
    skipped_layers: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data; without `skipped_layers` if there are none."""
        facts = asdict(self) | {"methods": list(self.methods), "kept": self.kept}
        skipped, measure = facts.pop("skipped_layers"), facts.pop("measure")
        facts = {key.replace("error", measure): value for key, value in facts.items()}
        return facts | ({"skipped_layers": list(skipped)} if skipped else {})

    @property
    def kept(self) -> bool:
        """Whether the refined model is at least as good as the original.

        The mean of the errors on the held-out images and on the others decides. The others favour the refined model,
        but a few held-out images alone decide by chance (docs/decisions.md).
        """
        allowed = _CHANCE.get(self.measure, 1.0) * (self.error_before + self.fitted_error_before)
        return self.error_after + self.fitted_error_after < allowed
