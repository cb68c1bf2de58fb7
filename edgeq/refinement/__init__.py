"""Correct an INT8 model so that it agrees better with the float model it was made from, at no run-time cost."""

from __future__ import annotations

from edgeq.refinement.files import RefinedModel, refine, refine_content
from edgeq.refinement.refine import METHODS, Refinement, refine_model

__all__ = ["METHODS", "RefinedModel", "Refinement", "refine", "refine_content", "refine_model"]
