"""Compare the statistics of images inside a network with those that its BatchNormalization layers recorded in training.

Each such layer stores the mean and the variance of its input per channel.
"""

from __future__ import annotations

import contextlib
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

from edgeq.errors import InputError, ModelError, one_line
from edgeq.preprocessing import Preprocessing

__all__ = ["WatchedNetwork"]

_Moments = list[tuple[Any, Any]]
_Floats = npt.NDArray[np.float32]

_BATCH = 25  # images per batch; affects only memory
_FOLDED_TOLERANCE = 1e-3  # a folded layer's variance is 1 or 1 - epsilon, and may have been stored as float16
_TINY = 1e-30  # keeps logarithms finite
_INSTEAD = "calibrate on photos (edgeq convert --calib DIR), or on the set that comes with edgeq (without --calib)"


class WatchedNetwork:
    """A `keras.Model` and the inputs of its BatchNormalization layers.

    In this class, pixels are (N, height, width, 1 or 3) float32 in [0, 1], grey or RGB. Moments are a list of
    (mean, variance) pairs, both (channels,) float32: one pair for each call of a BatchNormalization layer in the model.
    Layers whose statistics carry no information are left out.

    Args:
        model: a model from (N, height, width, channels) to (N, classes): probabilities or logits. Its
            BatchNormalization layers may be in nested models.
        preprocessing: how images become the model's input.
        name: the model's name in error messages; None for its own name.

    Attributes:
        shape: (height, width, 1 or 3), the shape of an image.
        classes: the number of classes.

    Raises:
        InputError: the model has no BatchNormalization, or its statistics carry no information.
        ModelError: the model cannot run on images of that size.
    """

    def __init__(self, model: Any, preprocessing: Preprocessing, name: str | None = None) -> None:
        import tensorflow as tf

        name = name or model.name
        self._model, self._preprocessing = model, preprocessing
        self.shape = (preprocessing.height, preprocessing.width, len(preprocessing.channels))
        trial = np.random.default_rng(0).random((2, *self.shape), np.float32)
        try:
            seen, scores = self._run(tf.constant(trial))
        except Exception as error:  # layers raise exceptions of many types for shapes that they do not support
            size = f"{preprocessing.width}x{preprocessing.height} {preprocessing.channels}"
            raise ModelError(f"{name}: cannot run on images of {size} ({one_line(error)})") from None
        if not seen:
            raise InputError(f"{name}: has no BatchNormalization, so it has no statistics of its photos; {_INSTEAD}")
        self._kept = [_Kept(layer) for layer, _ in seen]
        if not any(kept.informative for kept in self._kept):
            raise InputError(
                f"{name}: its BatchNormalization was never trained or is folded into other weights (means 0, "
                f"variances 1), so its statistics carry no information; {_INSTEAD}"
            )
        self._gives_probabilities = bool(tf.reduce_all((scores >= 0) & (scores <= 1)))
        self.classes = max(2, int(scores.shape[1]))  # a single score is that of the second of two classes
        pixels = tf.TensorSpec((None, *self.shape), tf.float32)
        self.moments = tf.function(lambda x: self.look(x)[0], input_signature=[pixels], autograph=False)

    def distance(self, images: npt.NDArray[np.uint8]) -> float:
        """Measure how far the statistics of images inside the network are from those recorded in training.

        Args:
            images: (N, height, width, 1 or 3) uint8, grey or RGB.

        Returns:
            Root mean square, over layers and channels, of the differences of mean and standard deviation, in units of
            the channel's standard deviation; 0 if the statistics are equal.
        """
        batches = np.array_split(images.astype(np.float32) / 255, math.ceil(len(images) / _BATCH))
        shares = [len(batch) / len(images) for batch in batches]
        pooled = []
        for layer in zip(*map(self.moments, batches), strict=True):
            means, variances = (np.stack(kind) for kind in zip(*layer, strict=True))  # (batches, channels)
            mean = np.average(means, 0, shares)
            pooled.append((mean, np.average(variances + (means - mean) ** 2, 0, shares)))
        return math.sqrt(self.squared_distance(pooled))

    def squared_distance(self, moments: _Moments) -> Any:
        """Return the squared distance of moments from the recorded statistics, a scalar tensor.

        It is the mean over layers and channels of the squared differences of mean and standard deviation, in units of
        the recorded standard deviation. That includes the layer's epsilon: otherwise, channels that never vary would
        outweigh all others.
        """
        import tensorflow as tf

        known = [kept for kept in self._kept if kept.informative]
        distances = [
            tf.reduce_mean(
                (mean - kept.mean) ** 2 / kept.variance + (tf.sqrt((variance + kept.epsilon) / kept.variance) - 1) ** 2
            )
            for (mean, variance), kept in zip(moments, known, strict=True)
        ]
        return tf.add_n(distances) / len(distances)

    def look(self, pixels: Any) -> tuple[_Moments, Any]:
        """Return the moments of pixels and the classes' log-probabilities, (N, classes), as TensorFlow tensors."""
        seen, scores = self._run(pixels)
        moments = [_moments(*call) for kept, call in zip(self._kept, seen, strict=True) if kept.informative]
        return moments, self._log_probabilities(scores)

    def _log_probabilities(self, scores: Any) -> Any:
        """Turn scores, (N, scores), into log-probabilities, (N, classes).

        The scores may be probabilities from a softmax or from sigmoids, or logits.
        """
        import tensorflow as tf

        if scores.shape[1] == 1:
            scores = tf.concat([1 - scores if self._gives_probabilities else tf.zeros_like(scores), scores], 1)
        if self._gives_probabilities:
            return tf.math.log(tf.maximum(scores, _TINY))
        return tf.nn.log_softmax(scores)

    def _run(self, pixels: Any) -> tuple[list[tuple[Any, Any]], Any]:
        """Run the model; return each BatchNormalization layer with its input, in order, and the scores (N, scores)."""
        import tensorflow as tf

        spec = self._preprocessing
        mean, std = (np.asarray(values, np.float32) for values in (spec.mean, spec.std))
        cropped = tf.einsum("yr,xc,nrck->nyxk", *_crop_matrices(spec), pixels) if spec.crop < 1 else pixels
        ordered = cropped[..., ::-1] if spec.channels == "BGR" else cropped
        with _watching() as seen:
            scores = self._model((255 * ordered - mean) / std, training=False)
        return seen, tf.cast(tf.reshape(scores, (-1, scores.shape[-1])), tf.float32)


class _Kept:
    """The statistics that a BatchNormalization layer recorded in training.

    Attributes:
        mean: (channels,) float32.
        variance: (channels,) float32, with `epsilon` added.
        epsilon: the constant that the layer adds to variances.
        informative: whether the statistics carry information; False if the layer was never trained, or if it has been
            folded into a neighbouring layer.
    """

    def __init__(self, layer: Any) -> None:
        variance = np.asarray(layer.moving_variance)
        self.mean, self.epsilon = np.asarray(layer.moving_mean), np.float32(layer.epsilon)
        self.variance = variance + self.epsilon
        near_one = np.abs(variance - 1).max() <= self.epsilon + _FOLDED_TOLERANCE
        self.informative = bool(self.mean.any() or not near_one)


@contextlib.contextmanager
def _watching() -> Iterator[list[tuple[Any, Any]]]:
    """Record each BatchNormalization layer that runs within the context, and its input, in nested models too."""
    from keras.layers import BatchNormalization

    original = BatchNormalization.call
    seen: list[tuple[Any, Any]] = []

    def call(layer: Any, inputs: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append((layer, inputs))
        return original(layer, inputs, *args, **kwargs)

    BatchNormalization.call = call
    try:
        yield seen
    finally:
        BatchNormalization.call = original


def _moments(layer: Any, values: Any) -> tuple[Any, Any]:
    """Return mean and variance of a layer's input, (channels,) float32 each."""
    import tensorflow as tf

    rank = values.shape.rank
    mean, variance = tf.nn.moments(tf.cast(values, tf.float32), [i for i in range(rank) if i != layer.axis % rank])
    return mean, variance


def _crop_matrices(preprocessing: Preprocessing) -> tuple[_Floats, _Floats]:
    """Express the crop and resize of an image of the input's size as two matrices, one for rows and one for columns.

    Returns:
        (height, height) float32, from the image's rows to the input's; and (width, width) float32 for the columns.
    """
    height, width = preprocessing.height, preprocessing.width
    left, top, right, bottom = preprocessing.crop_box(width, height)

    # Resampling is linear, so its effect on the identity gives its matrix.
    def matrix(side: int, box: tuple[float, float, float, float]) -> _Floats:
        identity = Image.fromarray(np.eye(side, dtype=np.float32))
        return np.asarray(identity.resize((side, side), Image.Resampling.BILINEAR, box), np.float32)

    return matrix(height, (0, top, height, bottom)), matrix(width, (0, left, width, right))
