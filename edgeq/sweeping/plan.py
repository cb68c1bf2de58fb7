"""The plan of a sweep: everything that determines its result, except the photos and the machine."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from edgeq.networks import Architecture
from edgeq.sweeping.grid import SweepGrid, SweepLimits
from edgeq.training import TrainingPlan

__all__ = ["SweepPlan"]

_OPTIONS = {
    "networks": "--network",
    "alphas": "--alpha",
    "sizes": "--res",
    "output_strides": "--output-stride",
    "formats": "--format",
    "max_ms": "--max-ms",
    "max_bytes": "--max-bytes",
    "max_ram_bytes": "--max-ram",
    "min_top1": "--min-top1",
}
_OF_TRAINING = (
    *("epochs", "batch", "learning_rate", "patience", "flips"),
    *("fine_tune", "fine_tune_epochs", "fine_tune_rate", "views"),
)


@dataclass(frozen=True)
class SweepPlan:
    """How to sweep.

    Attributes:
        grid: the networks to try.
        training: how to train each; its `architecture` and `alpha` are replaced by those of the grid. None to evaluate
            networks with ImageNet weights without training.
        limits: what a cell must meet.
        test_share: fraction of the photos that no choice uses. They measure the picks at the end.
        seed: random seed of the split of the photos, of the weights and of the calibration.
        calibration: folder of calibration images for networks with ImageNet weights; None for the images that come with
            edgeq. Trained networks are calibrated on training photos.
        calibration_count: number of calibration images.
        on: boards on which latencies are measured, ``[user@]host[:port]``; empty for this machine.
        runtime: a name in ``edgeq.runtime.RUNTIMES``, or ``auto`` for the fastest one on each board.
        threads: number of threads of the interpreter.
        seconds: time for which each model runs when its latency is measured.
    """

    grid: SweepGrid = field(default_factory=SweepGrid)
    training: TrainingPlan | None = field(default_factory=TrainingPlan)
    limits: SweepLimits = field(default_factory=SweepLimits)
    test_share: float = 0.2
    seed: int = 0
    calibration: str | None = None
    calibration_count: int = 100
    on: tuple[str, ...] = ()
    runtime: str = "auto"
    threads: int = 1
    seconds: float = 1.0

    def training_of(self, architecture: Architecture) -> TrainingPlan:
        """Return the plan to train one architecture; the sweep must train its networks."""
        assert self.training is not None
        return replace(
            self.training,
            architecture=architecture,
            alpha=architecture.alpha,
            test_share=self.test_share,
            seed=self.seed,
        )

    def settings(self) -> dict[str, Any]:
        """Return everything that must be equal to resume a sweep: JSON data by the name of the option."""
        named = {_OPTIONS[name]: value for part in (self.grid, self.limits) for name, value in asdict(part).items()}
        training: dict[str, Any] = {"--weights": "imagenet"}
        if self.training is not None:
            plan = self.training.to_json()
            training = {"--from-scratch": self.training.is_from_scratch, "--validation": plan["validation_share"]}
            training |= {f"--{name.replace('_', '-')}": plan[name] for name in _OF_TRAINING}
        how = {
            "--test": self.test_share,
            "--seed": self.seed,
            "--calib": self.calibration,
            "--calib-count": self.calibration_count,
            "--on": self.on,
            "--runtime": self.runtime,
            "--threads": self.threads,
            "--seconds": self.seconds,
        }
        plain: dict[str, Any] = json.loads(json.dumps(named | training | how))  # lists instead of tuples
        return plain
