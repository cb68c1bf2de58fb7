"""The statistics in a network's BatchNormalization layers, and the distance of other images from them.

Each layer kept the mean and the variance, a channel, of what went into it during training.
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

_BATCH = 25  # images at a time, where only their averages matter
_FOLDED_TOLERANCE = 1e-3  # float16 keeps a variance of 0.999 only so exactly
_TINY = 1e-30  # keeps logarithms finite
_INSTEAD = "calibrate on photos (edgeq convert --calib DIR), or on the set that comes with edgeq (without --calib)"


class WatchedNetwork:
    """A `keras.Model` whose BatchNormalization layers can be watched.

    Pixels are (N, height, width, 1 or 3) float32 in [0, 1] here, grey or RGB. Moments are one (mean, variance) a
    layer that knows something, each (channels,) float32.

    Args:
        model: from (N, height, width, channels) to (N, classes): probabilities or logits. Its BatchNormalization
            layers may be in nested models.
        preprocessing: how images become its input.
        name: what errors call the model; None takes its own name.

    Attributes:
        shape: (height, width, 1 or 3) of its images.
        classes: how many there are, for an image to be drawn towards one.

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
        except Exception as error:  # layers raise anything on shapes that do not suit them
            size = f"{preprocessing.width}x{preprocessing.height} {preprocessing.channels}"
            raise ModelError(f"{name}: cannot run on images of {size} ({one_line(error)})") from None
        if not seen:
            raise InputError(f"{name}: has no BatchNormalization, so it keeps no statistics of its photos; {_INSTEAD}")
        self._kept = [_Kept(layer) for layer, _ in seen]
        if not any(kept.informative for kept in self._kept):
            raise InputError(
                f"{name}: its BatchNormalization was never trained or is folded into other weights (means 0, "
                f"variances 1), so its statistics carry no information; {_INSTEAD}"
            )
        self._gives_probabilities = bool(tf.reduce_all((scores >= 0) & (scores <= 1)))
        self.classes = max(2, int(scores.shape[1]))  # one score is the second class's
        pixels = tf.TensorSpec((None, *self.shape), tf.float32)
        self.moments = tf.function(lambda x: self.look(x)[0], input_signature=[pixels], autograph=False)

    def distance(self, images: npt.NDArray[np.uint8]) -> float:
        """Measure the distance of the statistics of images inside the network from those of its training.

        Args:
            images: (N, height, width, 1 or 3) uint8, grey or RGB.

        Returns:
            Root mean square, over layers and channels, of the differences of mean and of standard deviation, in
            standard deviations of the channel; 0 for equal statistics.
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
        """Mean over layers and channels of the squared differences of mean and of standard deviation: a scalar.

        In standard deviations as the layers take them, that is with their epsilon, so that channels which never
        vary do not outweigh all others.
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
        """Compute, in TensorFlow, the moments of pixels and their log-probabilities, (N, classes)."""
        seen, scores = self._run(pixels)
        moments = [_moments(*call) for kept, call in zip(self._kept, seen, strict=True) if kept.informative]
        return moments, self._log_probabilities(scores)

    def _log_probabilities(self, scores: Any) -> Any:
        """(N, classes) of (N, scores): probabilities of one softmax or of many sigmoids, or logits."""
        import tensorflow as tf

        if scores.shape[1] == 1:
            scores = tf.concat([1 - scores if self._gives_probabilities else tf.zeros_like(scores), scores], 1)
        if self._gives_probabilities:
            return tf.math.log(tf.maximum(scores, _TINY))
        return tf.nn.log_softmax(scores)

    def _run(self, pixels: Any) -> tuple[list[tuple[Any, Any]], Any]:
        """Each BatchNormalization layer with its input, in the order in which they run, and the (N, scores)."""
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
        epsilon: what the layer adds to variances.
        informative: False where it was never trained, or is folded into the layers beside it.
    """

    def __init__(self, layer: Any) -> None:
        variance = np.asarray(layer.moving_variance)
        self.mean, self.epsilon = np.asarray(layer.moving_mean), np.float32(layer.epsilon)
        self.variance = variance + self.epsilon
        near_one = np.abs(variance - 1).max() <= self.epsilon + _FOLDED_TOLERANCE
        self.informative = bool(self.mean.any() or not near_one)


@contextlib.contextmanager
def _watching() -> Iterator[list[tuple[Any, Any]]]:
    """Note each BatchNormalization layer that runs, in whatever nested model it is, with its input."""
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
    """Mean and variance of a layer's input, (channels,) float32 each."""
    import tensorflow as tf

    rank = values.shape.rank
    mean, variance = tf.nn.moments(tf.cast(values, tf.float32), [i for i in range(rank) if i != layer.axis % rank])
    return mean, variance


def _crop_matrices(preprocessing: Preprocessing) -> tuple[_Floats, _Floats]:
    """Return cropping and resampling as two matrices, for the rows and the columns of an image of the input's size.

    Returns:
        (height, height) and (width, width) float32: from rows and columns of the image to those of the input.
    """
    height, width = preprocessing.height, preprocessing.width
    left, top, right, bottom = preprocessing.crop_box(width, height)

    # Resampling is linear, so its effect on the identity gives its matrix.
    def matrix(side: int, box: tuple[float, float, float, float]) -> _Floats:
        identity = Image.fromarray(np.eye(side, dtype=np.float32))
        return np.asarray(identity.resize((side, side), Image.Resampling.BILINEAR, box), np.float32)

    return matrix(height, (0, top, height, bottom)), matrix(width, (0, left, width, right))
