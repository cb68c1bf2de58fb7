"""Correct an INT8 model so that it agrees better with the float model it was made from, at no run-time cost."""

from __future__ import annotations

from edgeq.refinement.check import held_out
from edgeq.refinement.correction import restore_biases
from edgeq.refinement.files import RefinedModel, refine, refine_content
from edgeq.refinement.observation import Observation, observe
from edgeq.refinement.refine import refine_model
from edgeq.refinement.result import METHODS, Refinement

__all__ = [
    "METHODS",
    "Observation",
    "RefinedModel",
    "Refinement",
    "held_out",
    "observe",
    "refine",
    "refine_content",
    "refine_model",
    "restore_biases",
]
