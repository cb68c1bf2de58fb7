"""Make an INT8 model agree better with the float model it was made from, at no run-time cost."""

from __future__ import annotations

from edgeq.refinement.refine import METHODS, Refinement, refine

__all__ = ["METHODS", "Refinement", "refine"]
