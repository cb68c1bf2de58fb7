"""Networks that learn from augmented views: a teacher from labels, a small network from the teacher's probabilities.

Written with Keras's own operations; TensorFlow is the backend that it is tested on.
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

BATCH_NORM_MOMENTUM = 0.99  # 100 steps; Keras's 0.999 would remember pictures of several epochs
TEMPERATURE = 2.0  # of the probabilities compared (arXiv 1503.02531, section 2)


class Learner(keras.Model):
    """A network as Keras's `fit` trains it on views: from what `views.draw_views` returns to (N, classes) logits."""

    def __init__(self, network: Any) -> None:
        super().__init__()
        self.network = network

    def call(self, views: dict[str, Any], training: bool = False) -> Any:
        """Render the views and classify them."""
        return ops.cast(self.network(render(views), training=training), "float32")


# Keras hands a loss one tensor of targets: (N, 2, classes) float32, the labels' shares and the teacher's logits.


def label_loss(targets: Any, scores: Any) -> Any:
    """Cross entropy of (N, classes) logits and the labels' shares: (N,)."""
    return -ops.sum(targets[:, 0] * ops.log_softmax(scores), axis=-1)


def distillation_loss(targets: Any, scores: Any) -> Any:
    """Kullback-Leibler divergence of (N, classes) logits from the teacher's probabilities; labels do not count.

    Returns:
        (N,), times the square of the temperature (arXiv 1503.02531, section 2.1).
    """
    teacher, network = (ops.log_softmax(x / TEMPERATURE) for x in (targets[:, 1], scores))
    return TEMPERATURE**2 * ops.sum(ops.exp(teacher) * (teacher - network), axis=-1)


def top1(targets: Any, scores: Any) -> Any:
    """Whether the highest score is the label with the largest share: (N,) float32."""
    return ops.cast(ops.argmax(scores, axis=-1) == ops.argmax(targets[:, 0], axis=-1), "float32")


def trainable_copy(network: Any, steps: int) -> Any:
    """The same variables behind a model that takes any input size, and trains faster on TensorFlow.

    Args:
        network: a functional `keras.Model` of this project, (N, side, side, 3) to (N, classes).
        steps: of the training.

    Returns:
        The model. Sizes other than the network's must be multiples of its output stride.
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
    """Let every block with a shortcut begin as the identity, by a zero scale in its last layer (arXiv 1706.02677)."""
    for layer in network.layers:
        if isinstance(layer, keras.layers.Add):
            last = layer.input[-1]._keras_history.operation  # of the branch; the shortcut comes first
            last.gamma.assign(0 * last.gamma)


def imagenet_teacher(network: Any, views: dict[str, Any]) -> None:
    """Fill MobileNetV2 1.0 with ImageNet's weights, and give BatchNormalization the statistics of the views.

    In some files of these weights BatchNormalization is folded into the convolutions. Trained as they are, batch
    statistics would change what the network computes; with mean, variance, scale and offset set from the views,
    each layer computes the same with the statistics of a batch.

    Args:
        network: built for another number of classes; its classifier keeps its weights.
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
    """Saves all that a training needs to continue: weights, the optimizer's state and the learning curve.

    An epoch of Keras's `fit` is called a round here: it is a part of a pass over the pictures.

    Args:
        path: of the file. It is replaced in one step, so an interruption leaves the old one or the new one.
        network: whose weights are saved.
        optimizer: built for the network's trainable variables.
        recipe: plain data; a state of another recipe is refused.
        rounds: of the whole training.
        every: seconds at least between two files; the last round is always saved.
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
        """Of training, without what interruptions lost."""
        return self.last("seconds") or 0.0

    def last(self, name: str) -> float | None:
        """The latest value of that name in the learning curve."""
        return next((values[name] for values in reversed(self.history) if name in values), None)

    def restore(self) -> int:
        """Read the file if there is one, into the network and the optimizer.

        Returns:
            How many rounds are done.

        Raises:
            SystemExit: it is of another recipe.
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
        """Read the weights of such a file into another network with the same variables."""
        with np.load(path) as saved:
            for index, variable in enumerate(network.variables):
                variable.assign(saved[f"v{index}"])

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._started, self._seconds_before = time.monotonic(), self.seconds
        self.machine = f"{os.cpu_count()} CPU cores"

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the round's values, print them, and save all when it is time."""
        # The loss on held-out pictures would need the teacher's scores of them.
        values = {name: round(float(value), 5) for name, value in (logs or {}).items() if name != "val_loss"}
        values["seconds"] = round(self._seconds_before + time.monotonic() - self._started, 1)
        self.history.append(values)
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        print(f"{self.path.name.split('.state')[0]} {epoch + 1}/{self.rounds}: {shown}", flush=True)
        if time.monotonic() - self._saved >= self.every or epoch + 1 == self.rounds:
            self.save()

    def save(self) -> None:
        """Write the file; once the training is finished, without the optimizer's state."""
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
        """What is saved."""
        finished = len(self.history) == self.rounds
        return self.network.variables + ([] if finished else self.optimizer.variables)
