"""Views of the training pictures that can be drawn again, and what a teacher says of them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
from distillation import Learner
from views import Augmentation, draw_views, mixed_shares

__all__ = ["CALM_SETS", "ROUNDS", "SEED", "STRONG_SETS", "Pictures", "Teacher"]

SEED = 0
ROUNDS = 10  # per pass over the pictures; after each the state can be saved
_STRONG, _CALM = Augmentation(), Augmentation(smallest_area=0.8, largest_area=1.0, colour=0.1, mixed=0)
_SETS = [_STRONG] * 12 + [_CALM] * 4
STRONG_SETS, CALM_SETS = range(12), range(12, len(_SETS))
"""Numbers of the view sets. Each has one view of every picture; the calm ones are for the end of a training."""


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures, and views of them.

    Attributes:
        pixels: (N, 32, 32, 3) uint8 RGB.
        labels: (N,) int64.
        classes: the ten names.
    """

    pixels: Any
    labels: Any
    classes: tuple[str, ...]

    def steps(self, batch: int) -> int:
        """Batches per pass, whole rounds of them; the rest of the pictures is left out of this pass."""
        count = len(self.labels) // batch
        return count - count % ROUNDS if count > ROUNDS else count

    def views(self, number: int, step: int, batch: int, side: int) -> tuple[dict[str, Any], Any]:
        """One batch of a view set and its labels' shares; the same arguments always give the same."""
        order = np.random.default_rng([SEED, number]).permutation(len(self.labels))
        chosen = order[step * batch : (step + 1) * batch]
        rng = np.random.default_rng([SEED, number, step])
        views = draw_views(self.pixels[chosen], side, _SETS[number], rng)
        return views, mixed_shares(self.labels[chosen], len(self.classes), views)


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned network whose scores on the view sets are kept in a folder.

    Attributes:
        network: a `keras.Model` that gives logits.
        pictures: whose views it scores.
        batch: views per batch, as in the training of its students.
        folder: of the scores.
    """

    network: Any
    pictures: Pictures
    batch: int
    folder: Path

    def scores(self, number: int) -> Any:
        """Logits for all batches of a view set: (batches, batch, classes) float16."""
        path = self.folder / f"teacher-scores-{number:02}.npy"
        if not path.exists():
            click.echo(f"{path.name}: the teacher looks at view set {number}")
            learner, side = Learner(self.network), self.network.input_shape[1]
            learner.compile()
            found = [
                learner.predict_on_batch(self.pictures.views(number, step, self.batch, side)[0])
                for step in range(self.pictures.steps(self.batch))
            ]
            temporary = path.with_suffix(".tmp")
            with temporary.open("wb") as file:
                np.save(file, np.asarray(found, np.float16))
            temporary.replace(path)
        return np.load(path)
