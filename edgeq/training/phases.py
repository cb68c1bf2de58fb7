"""One phase of training: an optimizer, a learning rate that rises and falls, and the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.files import replacing
from edgeq.training.history import Epoch

__all__ = ["Examples", "Phase", "PhaseSettings", "Validate", "measure", "one_cycle"]

Examples = Callable[[npt.NDArray[np.int64], int], Any]
"""Makes the inputs (N, ...) float32 of a step from the indices of its pictures in the training set, and the number of
the step over all epochs."""
Validate = Callable[[], tuple[float, float]]
"""Measures loss and top-1 on held-out pictures."""

_WARM_UP = 0.08  # share of the steps
_START = 0.05  # share of the highest learning rate


@dataclass(frozen=True)
class PhaseSettings:
    """How a phase trains.

    Attributes:
        epochs: at most.
        learning_rate: at the top of the phase.
        weight_decay: of AdamW (arXiv 1711.05101), multiplied by the learning rate in each step.
        batch: pictures per step.
        label_smoothing: share of a label's weight that is spread over all classes, in [0, 1).
        largest_gradient: gradients are clipped to this norm over all variables.
        patience: epochs without an improvement after which training ends.
        seed: of the order of the pictures.
    """

    epochs: int
    learning_rate: float
    weight_decay: float
    batch: int
    label_smoothing: float = 0.05
    largest_gradient: float = 2.0
    patience: int = 1_000
    seed: int = 0


def one_cycle(highest: float, steps: int) -> Any:
    """The learning rate of each step: it rises in a straight line, then falls to 0 along a cosine.

    Args:
        highest: learning rate, reached after 8 % of the steps.
        steps: of the whole phase.

    Returns:
        A Keras schedule, called with the number of the step.
    """
    import keras

    warm_up = _WARM_UP * steps
    return keras.optimizers.schedules.CosineDecay(
        _START * highest, steps - warm_up, warmup_target=highest, warmup_steps=warm_up
    )


class Phase:
    """Trains variables of a network, one epoch at a time; its state can be saved after each epoch and resumed.

    Args:
        name: of the phase, for the history.
        model: gives logits (N, classes) from inputs; called as ``model(x, training=True)``.
        trained: the variables that learn.
        kept: all variables that make up the result, the trained ones among them.
        labels: (N,) integers, of the training set.
        classes: how many there are.
        settings: how to train.
        begun_with: the epoch whose values the variables have; it stays the best until this phase has a better one.
    """

    def __init__(
        self,
        name: str,
        model: Any,
        trained: list[Any],
        kept: list[Any],
        labels: npt.NDArray[np.integer[Any]],
        classes: int,
        settings: PhaseSettings,
        begun_with: Epoch | None = None,
    ) -> None:
        import keras
        import tensorflow as tf

        self.name, self.model, self.settings = name, model, settings
        self.epochs_done, self.seconds = 0, 0.0
        self.best = begun_with
        self._best_number = 0  # of this phase's best epoch; 0 while none is better than what it began with
        self._trained, self._kept = trained, kept
        self._labels = tf.one_hot(labels, classes)
        steps = settings.epochs * max(1, len(labels) // settings.batch)
        self._optimizer = keras.optimizers.AdamW(
            one_cycle(settings.learning_rate, steps), settings.weight_decay, global_clipnorm=settings.largest_gradient
        )
        # Only full convolutions and classifiers decay, as in the TensorFlow-Slim code of MobileNet's authors.
        spared = [v for v in trained if len(v.shape) == 1 or "depthwise" in v.path]
        self._optimizer.exclude_from_weight_decay(spared)
        self._optimizer.build(trained)
        self._best_values = [variable.numpy() for variable in kept]
        self._step = tf.function(self._one_step, reduce_retracing=True)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` ones brought no improvement."""
        settings = self.settings
        return self.epochs_done >= settings.epochs or self.epochs_done - self._best_number >= settings.patience

    def train_epoch(self, examples: Examples, validate: Validate, progress: Callable[[int, int], None]) -> Epoch:
        """Pass over the training set once, then measure.

        Args:
            examples: makes a step's inputs.
            validate: measures loss and top-1 on held-out pictures.
            progress: called with (steps done, steps in all).

        Raises:
            FloatingPointError: the loss is NaN or infinite.
        """
        import tensorflow as tf

        started = time.monotonic()
        batches = list(self._batches())
        measured = []
        for index, indices in enumerate(batches):
            x = examples(indices, self.epochs_done * len(batches) + index)
            measured.append(self._step(x, tf.constant(indices)).numpy())
            progress(index + 1, len(batches))
        self.epochs_done += 1
        loss, top1 = np.mean(measured, axis=0)
        validation_loss, validation_top1 = validate()
        if not math.isfinite(loss) or not math.isfinite(validation_loss):
            raise FloatingPointError(f"epoch {self.epochs_done} ({self.name}): the loss is NaN or infinite")
        self.seconds += time.monotonic() - started
        epoch = Epoch(
            self.name, self.epochs_done, float(loss), float(top1), validation_loss, validation_top1, self.seconds
        )
        if self.best is None or epoch.is_better_than(self.best):
            self.best, self._best_number = epoch, epoch.number
            self._best_values = [variable.numpy() for variable in self._kept]
        return epoch

    def take_best(self) -> None:
        """Restore the best epoch's values."""
        for variable, value in zip(self._kept, self._best_values, strict=True):
            variable.assign(value)

    def save(self, path: Path) -> None:
        """Write everything needed to continue from here; an interrupted write leaves the old file."""
        state = [variable.numpy() for variable in self._state()]
        with replacing([path]) as (part,), part.open("wb") as file:
            best = self.best.to_array() if self.best and self._best_number else np.zeros(0)
            np.savez(file, *state, *self._best_values, best=best, progress=[self.epochs_done, self.seconds])

    def resume(self, path: Path) -> None:
        """Continue from what `save` wrote."""
        variables = self._state()
        with np.load(path) as saved:
            values = [saved[f"arr_{i}"] for i in range(len(variables) + len(self._kept))]
            epochs, self.seconds = (float(value) for value in saved["progress"])
            if saved["best"].size:
                self.best = Epoch.from_array(self.name, saved["best"])
                self._best_number = self.best.number
        self.epochs_done = int(epochs)
        for variable, value in zip(variables, values, strict=False):
            variable.assign(value)
        self._best_values = values[len(variables) :]

    def _state(self) -> list[Any]:
        return [*self._kept, *self._optimizer.variables]

    def _batches(self) -> Iterator[npt.NDArray[np.int64]]:
        """Indices of all pictures in random order, in batches; the last few that fill none are left out."""
        count, batch = len(self._labels), self.settings.batch
        order = np.random.default_rng((self.settings.seed, self.epochs_done)).permutation(count)
        size = min(batch, count)
        for start in range(0, count - size + 1, size):
            yield order[start : start + size]

    def _one_step(self, x: Any, indices: Any) -> Any:
        import keras
        import tensorflow as tf

        y = tf.gather(self._labels, indices)
        with tf.GradientTape() as tape:
            logits = self.model(x, training=True)
            smoothing = self.settings.label_smoothing
            loss = tf.reduce_mean(keras.losses.categorical_crossentropy(y, logits, True, smoothing))
        gradients = tape.gradient(loss, self._trained)
        self._optimizer.apply_gradients(zip(gradients, self._trained, strict=True))
        right = tf.equal(tf.argmax(logits, axis=1), tf.argmax(y, axis=1))
        return tf.stack([loss, tf.reduce_mean(tf.cast(right, tf.float32))])


def measure(
    model: Any, inputs: Callable[[slice], Any], labels: npt.NDArray[np.integer[Any]], batch: int = 128
) -> tuple[float, float]:
    """Mean cross entropy and top-1 accuracy in [0, 1].

    Args:
        model: gives logits; called as ``model(x, training=False)``.
        inputs: makes the inputs of a slice of the pictures.
        labels: (N,) integers.
        batch: pictures at a time.
    """
    import keras
    import tensorflow as tf

    loss = right = 0.0
    for start in range(0, len(labels), batch):
        part = slice(start, start + batch)
        logits = model(inputs(part), training=False)
        truth = tf.constant(labels[part])
        loss += float(tf.reduce_sum(keras.losses.sparse_categorical_crossentropy(truth, logits, from_logits=True)))
        right += int(np.sum(np.argmax(logits, axis=1) == labels[part]))
    return loss / len(labels), right / len(labels)
