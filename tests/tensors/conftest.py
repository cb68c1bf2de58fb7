"""The small networks that are no image classifiers, as float and as INT8 files."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from tensors.networks import FloatModel, small_networks


@pytest.fixture(scope="session")
def float_models() -> dict[str, FloatModel]:
    """The networks by name."""
    return small_networks()


@dataclass(frozen=True)
class Pair:
    """A float32 file and the INT8 file that edgeq made from it, and samples that it has not seen."""

    fp32: Path
    int8: Path
    data: Path
    name: str


@pytest.fixture(scope="session")
def pairs(float_models: dict[str, FloatModel], tmp_path_factory: pytest.TempPathFactory) -> dict[str, Pair]:
    """The networks by name, converted to INT8 and refined."""
    import edgeq

    found = {}
    for name, model in float_models.items():
        out = tmp_path_factory.mktemp(f"{name}_converted")
        made = edgeq.convert(model.path, "int8", out, calibration=model.calibration)
        found[name] = Pair(made.models["fp32"].path, made.models["int8"].path, model.data, name)
    return found
