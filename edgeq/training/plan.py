"""The training plan: everything that determines the result, except the photos."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeq.networks import Architecture
from edgeq.training.augmentation import Augmentation

__all__ = ["TrainingPlan"]


@dataclass(frozen=True)
class TrainingPlan:
    """How to train. The defaults are for transfer learning; `from_scratch` has defaults for random weights.

    Example:
        >>> plan = TrainingPlan(epochs=5, fine_tune=4)
        >>> small = TrainingPlan.from_scratch(architecture=Architecture(height=32, width=32, output_stride=8))

    Attributes:
        architecture: architecture of the network; its number of classes is replaced by that of the photos.
        alpha: width multiplier; None for that of the weights. Training from scratch uses `architecture.alpha`.
        weights: initial weights, see `build_network`; ``none`` to train all layers from scratch.
        fine_tune: number of top blocks to train together with the head, after the head alone; 0 for none.
        epochs: largest number of epochs of the head, or of training from scratch.
        fine_tune_epochs: largest number of epochs of fine-tuning.
        batch: number of photos per step.
        learning_rate: peak learning rate of the first phase.
        fine_tune_rate: peak learning rate of fine-tuning.
        views: number of views of each photo that the frozen layers process: the photo itself and augmented ones.
        flips: whether augmentation mirrors photos.
        validation_share: fraction of the photos that are held out for validation.
        test_share: fraction of the photos that are held out from training and validation, for a final measurement.
        patience: number of epochs without improvement after which a phase ends.
        seed: random seed of the split, the augmentation, the order of the photos and the initial weights.
    """

    architecture: Architecture = field(default_factory=Architecture)
    alpha: float | None = None
    weights: str = "auto"
    fine_tune: int = 0
    epochs: int = 30
    fine_tune_epochs: int = 10
    batch: int = 32
    learning_rate: float = 1e-3
    fine_tune_rate: float = 2e-4
    views: int = 4
    flips: bool = True
    validation_share: float = 0.2
    test_share: float = 0.0
    patience: int = 10
    seed: int = 0

    @classmethod
    def from_scratch(cls, **options: Any) -> TrainingPlan:
        """Make a plan to train all layers from random weights: 60 epochs, batch size 64, no early stopping.

        Args:
            options: attributes of the plan that replace these defaults.
        """
        chosen: dict[str, Any] = {"weights": "none", "epochs": 60, "batch": 64, "learning_rate": 0.002} | options
        return cls(**{"patience": chosen["epochs"]} | chosen)

    @property
    def is_from_scratch(self) -> bool:
        """Whether all layers start with random weights."""
        return self.weights == "none"

    @property
    def augmentation(self) -> Augmentation:
        """The augmentation of the training photos."""
        return Augmentation(flips=self.flips)

    @property
    def all_epochs(self) -> int:
        """Largest number of epochs of all phases together."""
        return self.epochs + (self.fine_tune_epochs if self.fine_tune and not self.is_from_scratch else 0)

    def to_json(self) -> dict[str, Any]:
        """Return the plan as plain JSON data."""
        return asdict(self)

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> TrainingPlan:
        """Make a plan from the data that `to_json` returns."""
        return cls(**data | {"architecture": Architecture(**data["architecture"])})
