"""Reproducible views of the training pictures, and a teacher's scores for them."""

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
ROUNDS = 10  # rounds per pass over the pictures; the state can be saved after each round
_STRONG, _CALM = Augmentation(), Augmentation(smallest_area=0.8, largest_area=1.0, colour=0.1, mixed=0)
_SETS = [_STRONG] * 12 + [_CALM] * 4
STRONG_SETS, CALM_SETS = range(12), range(12, len(_SETS))
"""Numbers of the view sets. Each set has one view of every picture. The calm ones, with mild augmentation, are for the
end of a training."""


@dataclass(frozen=True)
class Pictures:
    """Decoded pictures, from which views are made.

    Attributes:
        pixels: the pictures, (N, 32, 32, 3) uint8 RGB.
        labels: the pictures' class indices, (N,) int64.
        classes: the names of the ten classes.
    """

    pixels: Any
    labels: Any
    classes: tuple[str, ...]

    def steps(self, batch: int) -> int:
        """Return the number of batches per pass, a multiple of `ROUNDS`. The remaining pictures are left out."""
        count = len(self.labels) // batch
        return count - count % ROUNDS if count > ROUNDS else count

    def views(self, number: int, step: int, batch: int, side: int) -> tuple[dict[str, Any], Any]:
        """Make one batch of a view set, and the share of each class in its views.

        The same arguments always give the same views.

        Args:
            number: number of the view set.
            step: number of the batch in the set.
            batch: number of views per batch.
            side: side of the views in pixels.
        """
        order = np.random.default_rng([SEED, number]).permutation(len(self.labels))
        chosen = order[step * batch : (step + 1) * batch]
        rng = np.random.default_rng([SEED, number, step])
        views = draw_views(self.pixels[chosen], side, _SETS[number], rng)
        return views, mixed_shares(self.labels[chosen], len(self.classes), views)


@dataclass(frozen=True)
class Teacher:
    """A fine-tuned network whose scores for the view sets are stored in a folder.

    Attributes:
        network: a `keras.Model` that outputs logits.
        pictures: the pictures whose views it scores.
        batch: number of views per batch, the same as in the training of the small network.
        folder: folder of the stored scores.
    """

    network: Any
    pictures: Pictures
    batch: int
    folder: Path

    def scores(self, number: int) -> Any:
        """Return the logits for all batches of a view set, computed once: (batches, batch, classes) float16."""
        path = self.folder / f"teacher-scores-{number:02}.npy"
        if not path.exists():
            click.echo(f"{path.name}: the teacher scores view set {number}")
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
