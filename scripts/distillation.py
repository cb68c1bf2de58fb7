"""Networks that learn from augmented views: a teacher from labels, a small network from the teacher's probabilities.

Works with Keras on TensorFlow and on JAX; KERAS_BACKEND chooses. The layers whose training is slow on one of them run
there as other operators of the same arithmetic, on the same variables.
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
    """A network, with or without a teacher, as Keras's `fit` trains it on views.

    Its output is (N, 2, classes) float32 logits, the network's and its teacher's, or (N, 1, classes) without one.
    """

    def __init__(self, network: Any, teacher: Any = None) -> None:
        super().__init__()
        self.network, self.teacher = network, teacher
        if teacher is not None:
            teacher.trainable = False

    def call(self, views: dict[str, Any], training: bool = False) -> Any:
        """Render the views and classify them."""
        scores = [self.network(render(views), training=training)]
        if self.teacher is not None:
            scores.append(ops.stop_gradient(self.teacher(render(views, "teacher_"), training=False)))
        return ops.cast(ops.stack(scores, axis=1), "float32")


def label_loss(shares: Any, scores: Any) -> Any:
    """Cross entropy of (N, 1, classes) logits and the labels' shares, (N, classes)."""
    return -ops.sum(shares * ops.log_softmax(scores[:, 0]), axis=-1)


def distillation_loss(shares: Any, scores: Any) -> Any:
    """Kullback-Leibler divergence from the teacher's probabilities to the network's; labels do not count.

    Args:
        shares: (N, classes) of the labels.
        scores: (N, 2, classes) logits, the network's and the teacher's.

    Returns:
        (N,), times the square of the temperature as in arXiv 1503.02531, section 2.1.
    """
    network, teacher = (ops.log_softmax(scores[:, i] / TEMPERATURE) for i in range(2))
    return TEMPERATURE**2 * ops.sum(ops.exp(teacher) * (teacher - network), axis=-1)


def top1(shares: Any, scores: Any) -> Any:
    """Whether the highest score is the label with the largest share: (N,) float32."""
    return ops.cast(ops.argmax(scores[:, 0], axis=-1) == ops.argmax(shares, axis=-1), "float32")


def trainable_copy(network: Any, steps: int) -> Any:
    """The same variables behind a model that takes any input size and trains fast on the backend.

    Args:
        network: a functional `keras.Model` of this project, (N, side, side, 3) to (N, classes).
        steps: of the training.

    Returns:
        The model. Sizes other than the network's must be multiples of its output stride.
    """
    if keras.backend.backend() == "tensorflow":
        from edgeq.training.fused import training_twin

        return training_twin(network, steps)

    def convert(layer: Any) -> Any:
        if isinstance(layer, keras.layers.DepthwiseConv2D):
            return ShiftedDepthwise(layer)
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.momentum = BATCH_NORM_MOMENTUM
        return layer

    return keras.models.clone_model(network, keras.Input((None, None, 3)), clone_function=convert)


class ShiftedDepthwise(keras.layers.Layer):
    """A `DepthwiseConv2D` layer as a sum of shifted inputs, which XLA fuses; its own backward filters are slow."""

    def __init__(self, plain: Any) -> None:
        super().__init__(name=plain.name)
        self.plain = plain

    def call(self, x: Any) -> Any:
        """Filter each channel of (N, H, W, C)."""
        kernel, stride = self.plain.kernel, self.plain.strides[0]
        size = kernel.shape[0]
        if self.plain.padding == "same":
            x = ops.pad(x, ((0, 0), (size // 2, size // 2), (size // 2, size // 2), (0, 0)))
        rows, columns = (x.shape[axis] - size + 1 for axis in (1, 2))
        return sum(
            x[:, i : i + rows : stride, j : j + columns : stride] * kernel[i, j, :, 0]
            for i in range(size)
            for j in range(size)
        )

    def compute_output_shape(self, input_shape: Any) -> Any:
        """The shape of the layer that this one stands for."""
        return self.plain.compute_output_shape(input_shape)


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

    Args:
        path: of the file. It is replaced in one step, so an interruption leaves the old one or the new one.
        network: whose weights are saved.
        optimizer: built for the network's trainable variables.
        recipe: plain data; a state of another recipe is refused. Its ``epochs`` are those of the whole training.
        every: seconds at least between two files; the last epoch is always saved.
    """

    def __init__(self, path: Path, network: Any, optimizer: Any, recipe: dict[str, Any], every: float) -> None:
        super().__init__()
        self.path, self.network, self.optimizer, self.recipe, self.every = path, network, optimizer, recipe, every
        self.history: list[dict[str, float]] = []
        self._saved = self._started = time.monotonic()
        self._seconds_before = 0.0

    @property
    def seconds(self) -> float:
        """Of training, without what interruptions lost."""
        return self.history[-1]["seconds"] if self.history else 0.0

    def restore(self) -> int:
        """Read the file if there is one, into the network and the optimizer.

        Returns:
            How many epochs are done.

        Raises:
            SystemExit: it is of another recipe.
        """
        if not self.path.exists():
            return 0
        with np.load(self.path) as saved:
            facts = json.loads(str(saved["facts"]))
            if facts["recipe"] != json.loads(json.dumps(self.recipe)):
                sys.exit(f"{self.path}: is of a training with another recipe; delete it, or choose another --state")
            self.history = facts["history"]
            finished = len(self.history) == self.recipe["epochs"]
            for index, variable in enumerate(self.network.variables + (not finished) * self.optimizer.variables):
                variable.assign(saved[f"v{index}"])
        return len(self.history)

    def on_train_begin(self, logs: Any = None) -> None:
        """Start the clock."""
        self._saved = self._started = time.monotonic()
        self._seconds_before = self.seconds

    def on_epoch_end(self, epoch: int, logs: dict[str, Any] | None = None) -> None:
        """Note the epoch's values, print them, and save all when it is time."""
        seconds = round(self._seconds_before + time.monotonic() - self._started, 1)
        self.history.append({name: round(float(value), 5) for name, value in (logs or {}).items()})
        self.history[-1]["seconds"] = seconds
        shown = ", ".join(f"{name} {value:.4f}" for name, value in (logs or {}).items())
        print(
            f"{self.path.name.split('.state')[0]} epoch {epoch + 1} of {self.recipe['epochs']}: {shown}, "
            f"{seconds:.0f} s",
            flush=True,
        )
        if time.monotonic() - self._saved >= self.every or epoch + 1 == self.recipe["epochs"]:
            self.save()

    def save(self) -> None:
        """Write the file; once the training is finished, without the optimizer's state."""
        finished = len(self.history) == self.recipe["epochs"]
        variables = self.network.variables + (not finished) * self.optimizer.variables
        arrays = {f"v{index}": ops.convert_to_numpy(variable) for index, variable in enumerate(variables)}
        facts = json.dumps({"recipe": self.recipe, "history": self.history})
        temporary = self.path.with_name(f"{self.path.name}.tmp")
        with temporary.open("wb") as file:
            np.savez(file, facts=np.array(facts), **arrays)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(self.path)
        self._saved = time.monotonic()
