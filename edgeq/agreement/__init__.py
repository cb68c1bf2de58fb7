"""One model in several places: whether runtimes, kernels and machines give the same outputs."""

from __future__ import annotations

from edgeq.agreement.agreement import Agreement, Flip, PlaceResult, compare_places
from edgeq.agreement.place import DevicePlace, LocalPlace

__all__ = ["Agreement", "DevicePlace", "Flip", "LocalPlace", "PlaceResult", "compare_places"]
