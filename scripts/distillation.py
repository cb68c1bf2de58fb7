"""Train networks on augmented views: a teacher on labels, and a small network on the teacher's probabilities.

Uses only Keras's own operations, so it should run on any backend; it is tested on TensorFlow.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path
from typing import Any

import keras
import numpy as np
from keras import ops
from views import render

__all__ = [
    "Learner",
    "StateFile",
    "distillation_loss",
    "imagenet_teacher",
    "label_loss",
    "top1",
    "trainable_copy",
    "zero_init_residual",
]

BATCH_NORM_MOMENTUM = 0.99  # averages over about 100 steps; Keras's 0.999 would average over several epochs
TEMPERATURE = 2.0  # softmax temperature of distillation (arXiv 1503.02531, section 2)


class Learner(keras.Model):
    """A network in a form that Keras's `fit` can train: from views (see `views.draw_views`) to (N, classes) logits."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def call(self, views: dict[str, Any], training: bool = False) -> Any:
        """Render the views and classify them."""
        return ops.cast(self.network(render(views), training=training), "float32")


# Keras passes one tensor of targets to a loss. Here it is (N, 2, classes) float32: `targets[:, 0]` is the share of each
# class in the view, `targets[:, 1]` is the teacher's logits.


def label_loss(targets: Any, scores: Any) -> Any:
    """Compute the cross-entropy of (N, classes) logits and the classes' shares: (N,)."""
    return -ops.sum(targets[:, 0] * ops.log_softmax(scores), axis=-1)


def distillation_loss(targets: Any, scores: Any) -> Any:
    """Compute the Kullback-Leibler divergence of (N, classes) logits from the teacher's; labels are ignored.

    Returns:
        (N,), multiplied by the square of the temperature (arXiv 1503.02531, section 2.1).
    """
    teacher, network = (ops.log_softmax(x / TEMPERATURE) for x in (targets[:, 1], scores))
    return TEMPERATURE**2 * ops.sum(ops.exp(teacher) * (teacher - network), axis=-1)


def top1(targets: Any, scores: Any) -> Any:
    """Return whether the highest score is that of the class with the largest share: (N,) float32, 0 or 1."""
    return ops.cast(ops.argmax(scores, axis=-1) == ops.argmax(targets[:, 0], axis=-1), "float32")


def trainable_copy(network: Any, steps: int) -> Any:
    """Make a model that shares a network's variables, takes any input size and trains faster on TensorFlow.

    Args:
        network: a functional `keras.Model` of this project, from (N, side, side, 3) to (N, classes).
        steps: number of steps of the training.

    Returns:
        The model. Input sizes other than the network's must be multiples of its output stride.
    """
    if keras.backend.backend() == "tensorflow":
        from edgeq.training.fused import with_fused_batchnorm

        return with_fused_batchnorm(network, steps)

    def remember(layer: Any) -> Any:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
        return layer

    return keras.models.clone_model(network, keras.Input((None, None, 3)), clone_function=remember)


def zero_init_residual(network: Any) -> None:
    """Initialize every block with a shortcut to the identity, by a zero scale in its last layer (arXiv 1706.02677)."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Add):
            last = layer.input[-1]._keras_history.operation  # last layer of the branch; input[0] is the shortcut
            last.gamma.assign(0 * last.gamma)


def imagenet_teacher(network: Any, views: dict[str, Any]) -> None:
    """Load ImageNet's weights into MobileNetV2 1.0, and set BatchNormalization to the statistics of the views.

    In some files of these weights, BatchNormalization is folded into the convolutions. In training, batch statistics
    would then change what the network computes. So mean, variance, scale and offset are set such that each layer
    computes the same as before when it uses the statistics of a batch.

    Args:
        network: a network with another number of classes; its classifier keeps its weights.
        views: whole pictures, as `views.whole_pictures` returns them.
    """
    imagenet = keras.applications.MobileNetV2(weights="imagenet")
    network.set_weights(imagenet.get_weights()[:-2] + network.get_weights()[-2:])
    norms = [layer for layer in network.layers if isinstance(layer, keras.layers.BatchNormalization)]
    inputs = [ops.cast(norm.input, "float32") for norm in norms]
    moments = keras.Model(network.input, [ops.stack(ops.moments(x, axes=(0, 1, 2))) for x in inputs])
    for norm, values in zip(norms, moments.predict_on_batch(render(views)), strict=True):
        gamma, beta, old_mean, old_variance = norm.get_weights()
        mean, variance = values
        scale = gamma / np.sqrt(old_variance + norm.epsilon)
        new_gamma = scale * np.sqrt(variance + norm.epsilon)
        norm.set_weights([new_gamma, beta + scale * (mean - old_mean), mean, variance])


class StateFile(keras.callbacks.Callback):
    """Saves what is needed to continue a training: weights, the optimizer's state and the learning curve.

    An epoch of Keras's `fit` is called a round here, because it is only a part of a pass over the pictures.

    Args:
        path: the file to save to. It is replaced atomically.
        network: the network whose weights are saved.
        optimizer: an optimizer that is built for the network's trainable variables.
        recipe: settings of the training, as JSON data. A file with other settings is an error.
        rounds: number of rounds of the whole training.
        every: smallest time between two saves, in seconds; the last round is always saved.
    """

    def __init__(
        self, path: Path, network: Any, optimizer: Any, recipe: dict[str, Any], rounds: int, every: float
    ) -> None:
        super().__init__()
        self.path, self.network, self.optimizer, self.rounds, self.every = path, network, optimizer, rounds, every
        self.recipe: dict[str, Any] = json.loads(json.dumps(recipe))
        self.machine = ""
        self.history: list[dict[str, float]] = []
        self._saved = self._started = time.monotonic()
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Training time so far, without the rounds that interruptions lost."""
        return self.last("seconds") or 0.0

    def last(self, name: str) -> float | None:
        """Return the latest value of that name in the learning curve, or None."""
        return next((values[name] for values in reversed(self.history) if name in values), None)

    def restore(self) -> int:
        """Restore the network and the optimizer from the file, if it exists.

        Returns:
            The number of rounds done.

        Raises:
            SystemExit: the file is from a training with another recipe.
        """
        if self.path.exists():
            with np.load(self.path) as saved:
                facts = json.loads(str(saved["facts"]))
                if facts["recipe"] != self.recipe:
                    sys.exit(f"{self.path}: is of a training with another recipe; delete it, or choose another --state")
                self.history, self.machine = facts["history"], facts["machine"]
                for index, variable in enumerate(self._variables()):
                    variable.assign(saved[f"v{index}"])
        return len(self.history)

    @staticmethod
    def read_weights(path: Path, network: Any) -> None:
        """Load the weights in a state file into another network with the same variables."""
        with np.load(path) as saved:
            for index, variable in enumerate(network.variables):
                variable.assign(saved[f"v{index}"])

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._started, self._seconds_before = time.monotonic(), self.seconds
        self.machine = f"{os.cpu_count()} CPU cores"

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Record the round's values, print them, and save the state if it is time."""
        # Omit the loss on held-out pictures, which is meaningless without the teacher's scores for them.
        values = {name: round(float(value), 5) for name, value in (logs or {}).items() if name != "val_loss"}
        values["seconds"] = round(self._seconds_before + time.monotonic() - self._started, 1)
        self.history.append(values)
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        print(f"{self.path.name.split('.state')[0]} {epoch + 1}/{self.rounds}: {shown}", flush=True)
        if time.monotonic() - self._saved >= self.every or epoch + 1 == self.rounds:
            self.save()

    def save(self) -> None:
        """Write the file, without the optimizer's state if the training is finished."""
        arrays = {f"v{index}": ops.convert_to_numpy(variable) for index, variable in enumerate(self._variables())}
        facts = json.dumps({"recipe": self.recipe, "machine": self.machine, "history": self.history})
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, facts=np.array(facts), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._saved = time.monotonic()

    def _variables(self) -> list[Any]:
        """Return the variables to save."""
        finished = len(self.history) == self.rounds
        return self.network.variables + ([] if finished else self.optimizer.variables)
