"""How to train: all that decides the result, next to the photos."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

from edgeq.networks import Architecture
from edgeq.training.augmentation import Augmentation

__all__ = ["TrainingPlan"]


@dataclass(frozen=True)
class TrainingPlan:
    """How to train. The defaults are for transfer learning; `from_scratch` has those for random weights.

    Example:
        >>> plan = TrainingPlan(epochs=5, fine_tune=4)
        >>> small = TrainingPlan.from_scratch(architecture=Architecture(height=32, width=32, output_stride=8))

    Attributes:
        architecture: of the result, less its classes, which the photos have.
        alpha: width multiplier; None takes what the weights have.
        weights: where the layers begin: see `build_network`; ``none`` trains all of them from scratch.
        fine_tune: how many of the top blocks learn after the head has; 0 for none.
        epochs: of the head, or of training from scratch.
        fine_tune_epochs: of the top blocks.
        batch: pictures per step.
        learning_rate: at the top of the first phase.
        fine_tune_rate: at the top of the second.
        views: of each photo that the frozen layers see: a plain one and augmented ones.
        flips: whether augmentation mirrors photos.
        validation_share: of the photos that are held out.
        patience: epochs without a better one after which a phase ends.
        seed: of the split, the augmentation, the order and the first weights.
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
    patience: int = 10
    seed: int = 0

    @classmethod
    def from_scratch(cls, **options: Any) -> TrainingPlan:
        """Plan to train all layers from random weights: 60 epochs in batches of 64, without stopping early.

        Args:
            options: attributes with other values than that.
        """
        chosen: dict[str, Any] = {"weights": "none", "epochs": 60, "batch": 64, "learning_rate": 0.002} | options
        return cls(**{"patience": chosen["epochs"]} | chosen)

    @property
    def is_from_scratch(self) -> bool:
        """Whether no layer begins with trained weights."""
        return self.weights == "none"

    @property
    def augmentation(self) -> Augmentation:
        """How training photos are changed at random."""
        return Augmentation(flips=self.flips)

    def to_json(self) -> dict[str, Any]:
        """Plain data: plans of equal data train alike."""
        return asdict(self)
