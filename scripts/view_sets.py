"""Reproducible views of the training pictures, and a teacher's scores for them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
import numpy as np
import numpy.typing as npt
from views import Augmentation, draw_views, mixed_shares, render

from edgeq.files import replacing
from edgeq.quiet import quiet
from edgeq.runtime import TensorModel

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
    """A fine-tuned network. Its scores for the view sets are stored in a folder.

    Attributes:
        network: a `keras.Model` from (N, side, side, 3) in [-1, 1] to logits.
        pictures: the pictures whose views it scores.
        batch: number of views per batch, the same as in the training of the small networks.
        folder: folder of the scores, and of the teacher as .tflite file: the runtime is faster than PyTorch here.
    """

    network: Any
    pictures: Pictures
    batch: int
    folder: Path

    def scores(self, number: int) -> npt.NDArray[np.float16]:
        """Return the logits for all batches of a view set: (batches, batch, classes) float16."""
        path = self.folder / f"teacher-scores-{number:02}.npy"
        if not path.exists():
            click.echo(f"{path.name}: the teacher scores view set {number}")
            model, side = self._open(), self.network.input_shape[1]
            found = []
            for step in range(self.pictures.steps(self.batch)):
                images = render(self.pictures.views(number, step, self.batch, side)[0])
                found.append([model.invoke([image[None]])[0][0] for image in images])
            with replacing([path]) as (new,), new.open("wb") as file:
                np.save(file, np.asarray(found, np.float16))
        scores: npt.NDArray[np.float16] = np.load(path)
        return scores

    def _open(self) -> TensorModel:
        """Convert the network, if that has not been done, and open the .tflite file."""
        path = self.folder / "teacher_fp32.tflite"
        if not path.exists():
            import tensorflow as tf

            with quiet():
                content = tf.lite.TFLiteConverter.from_keras_model(self.network).convert()
            with replacing([path]) as (new,):
                new.write_bytes(content)
        return TensorModel(path, runtime="ai-edge-litert")
