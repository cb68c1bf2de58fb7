"""A phase of training: an optimizer, a learning rate schedule, and the best epoch."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.arrays import npz_bytes
from edgeq.files import replacing
from edgeq.training.history import Epoch

__all__ = ["Examples", "Phase", "PhaseSettings", "Validate", "measure", "one_cycle"]

Examples = Callable[[npt.NDArray[np.int64], int], Any]
"""Function that makes the inputs of a step, (N, ...) float32.

Its arguments are the indices of the step's photos in the training set, and the number of the step over all epochs."""
Validate = Callable[[], tuple[float, float]]
"""Function that returns loss and top-1 accuracy on the validation photos."""

_WARM_UP = 0.08  # fraction of the steps in which the learning rate rises
_START = 0.05  # initial learning rate, as a fraction of the highest


@dataclass(frozen=True)
class PhaseSettings:
    """The settings of a phase.

    Attributes:
        epochs: largest number of epochs.
        learning_rate: peak learning rate.
        weight_decay: weight decay of AdamW (arXiv 1711.05101), multiplied by the learning rate in each step.
        batch: number of photos per step.
        label_smoothing: fraction of a label's weight that is spread over all classes, in [0, 1).
        largest_gradient: largest norm of the gradients of all variables together; larger ones are scaled down.
        patience: number of epochs without improvement after which the phase ends.
        seed: random seed of the order of the photos.
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
    """Make a learning rate schedule that rises linearly, then falls to 0 along a cosine.

    Args:
        highest: highest learning rate, reached after 8 % of the steps.
        steps: number of steps in the whole phase.

    Returns:
        A Keras learning rate schedule.
    """
    import keras

    warm_up = _WARM_UP * steps
    return keras.optimizers.schedules.CosineDecay(
        _START * highest, steps - warm_up, warmup_target=highest, warmup_steps=warm_up
    )


class Phase:
    """Trains variables of a network, one epoch at a time. Its state can be saved after each epoch, and resumed.

    Args:
        name: name of the phase, for the history.
        model: model from inputs to logits, (N, classes); called as ``model(x, training=True)``.
        trained: the variables to train.
        kept: all variables that belong to the result, including the trained ones.
        labels: class indices of the training set, (N,) integers.
        classes: number of classes.
        settings: the phase's settings.
        begun_with: the earlier epoch whose values the variables have. It remains the best epoch until this phase has a
            better one.
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
        self._best_number = 0  # number of this phase's best epoch; 0 if none is better than `begun_with`
        self._trained, self._kept = trained, kept
        self._labels = tf.one_hot(labels, classes)
        steps = settings.epochs * max(1, len(labels) // settings.batch)
        self._optimizer = keras.optimizers.AdamW(
            one_cycle(settings.learning_rate, steps), settings.weight_decay, global_clipnorm=settings.largest_gradient
        )
        # Weight decay applies only to kernels that are not depthwise, as in the TensorFlow-Slim code of MobileNet's
        # authors.
        spared = [v for v in trained if len(v.shape) == 1 or "depthwise" in v.path]
        self._optimizer.exclude_from_weight_decay(spared)
        self._optimizer.build(trained)
        self._best_values = [variable.numpy() for variable in kept]
        self._step = tf.function(self._one_step, reduce_retracing=True, autograph=False)

    @property
    def finished(self) -> bool:
        """Whether all epochs are done, or the last `patience` epochs brought no improvement."""
        settings = self.settings
        return self.epochs_done >= settings.epochs or self.epochs_done - self._best_number >= settings.patience

    def train_epoch(self, examples: Examples, validate: Validate, progress: Callable[[int, int], None]) -> Epoch:
        """Train on the whole training set once, then validate.

        Args:
            examples: makes the inputs of a step.
            validate: returns loss and top-1 accuracy on the validation photos.
            progress: called with (steps done, number of steps).

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
        """Set the variables to the values of the best epoch."""
        for variable, value in zip(self._kept, self._best_values, strict=True):
            variable.assign(value)

    def save(self, path: Path) -> None:
        """Save the state to a file, from which `resume` continues; if interrupted, the old file remains."""
        state = [variable.numpy() for variable in self._state()]
        best = self.best.to_array() if self.best and self._best_number else np.zeros(0)
        content = npz_bytes(*state, *self._best_values, best=best, progress=[self.epochs_done, self.seconds])
        with replacing([path]) as (part,):
            part.write_bytes(content)

    def resume(self, path: Path) -> None:
        """Restore the state from a file that `save` wrote."""
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
        """Yield the indices of all photos in random order, in batches, without the remainder that fills no batch."""
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
    """Measure the mean cross-entropy and the top-1 accuracy, in [0, 1], of a model.

    Args:
        model: model that outputs logits; called as ``model(x, training=False)``.
        inputs: function that makes the inputs for a slice of the photos.
        labels: class indices, (N,) integers.
        batch: number of photos to process at a time.
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
