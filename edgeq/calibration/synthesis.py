"""Synthesize calibration images from a network, for users without photos like those that it was trained on.

A network's BatchNormalization layers recorded the statistics of the training photos. Images with the same statistics
drive the activations over about the same ranges, which is what calibration needs. So, as in ZeroQ (Cai et al. 2020,
arXiv 2001.00281, section 3.1), Adam changes noise until its statistics inside the network are close to the recorded
ones.

Unlike in the paper, each image is also optimized towards a class. No statistics constrain the scores, which come after
the last BatchNormalization. Without this, they would be far smaller than those of photos, and the INT8 file would clip
the scores of real photos.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.calibration.statistics import WatchedNetwork
from edgeq.errors import InputError
from edgeq.progress import Progress, no_progress

__all__ = ["DEFAULT_STEPS", "synthesize"]

DEFAULT_STEPS = 60
"""Optimizer steps per batch of images. More steps match the statistics better, but do not improve the INT8 file."""

_BATCH = 25  # images whose statistics are matched together; more need more memory
_LARGEST_RATE = 0.03  # initial learning rate of Adam, for pixels in [0, 1]; it decays to 0 along a half cosine
_DECAYS = (0.9, 0.99)  # Adam's decay rates for the averages of the gradient and of its square
_CLASS_WEIGHT = 0.1  # weight of the cross-entropy; the squared distance of the statistics has weight 1
_TINY = 1e-30  # Adam's epsilon; the usual 1e-7 is larger than these gradients

_Floats = npt.NDArray[np.float32]


def synthesize(
    network: WatchedNetwork,
    count: int = 100,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    progress: Progress = no_progress,
) -> npt.NDArray[np.uint8]:
    """Synthesize images whose statistics inside a network match those that its BatchNormalization layers recorded.

    Args:
        network: the network.
        count: number of images.
        seed: random seed of the initial noise. On one machine, the same seed gives the same images.
        steps: number of optimizer steps per batch of images.
        progress: called with ("Synthesizing images", steps done, number of steps).

    Returns:
        (count, height, width, 1 or 3) uint8, grey or RGB (RGB also for a network that takes BGR).

    Raises:
        InputError: `count` or `steps` is below 1.
    """
    if count < 1 or steps < 1:
        raise InputError(f"{count} images, {steps} steps: both must be at least 1")
    import keras

    gradient = _gradient_of(network)
    rng = np.random.default_rng(seed)
    classes = np.resize(rng.permutation(network.classes), count)
    batches = np.array_split(classes, math.ceil(count / _BATCH))
    made, total = [], len(batches) * steps
    for number, targets in enumerate(batches):
        pixels = keras.Variable(_noise(rng, len(targets), network.shape))
        rate = keras.optimizers.schedules.CosineDecay(_LARGEST_RATE, steps)
        adam = keras.optimizers.Adam(rate, *_DECAYS, epsilon=_TINY)
        for step in range(steps):
            progress("Synthesizing images", number * steps + step, total)
            adam.apply([gradient(pixels.value, targets)], [pixels])
            pixels.assign(keras.ops.clip(pixels, 0, 1))
        made.append(np.rint(255 * pixels.numpy()).astype(np.uint8))
    progress("Synthesizing images", total, total)
    return np.concatenate(made)


def _gradient_of(network: WatchedNetwork) -> Any:
    """Return the gradient of the loss as a traced TensorFlow function.

    It maps pixels, (N, height, width, channels) float32 in [0, 1], and the class that each image is optimized towards,
    (N,) int64, to a tensor of the pixels' shape.
    """
    import tensorflow as tf

    def gradient(pixels: Any, targets: Any) -> Any:
        with tf.GradientTape() as tape:
            tape.watch(pixels)
            moments, log_probabilities = network.look(pixels)
            surprise = -tf.reduce_mean(tf.gather(log_probabilities, targets, batch_dims=1))
            loss = network.squared_distance(moments) + _CLASS_WEIGHT * surprise
        return tape.gradient(loss, pixels)

    signature = [tf.TensorSpec((None, *network.shape), tf.float32), tf.TensorSpec((None,), tf.int64)]
    return tf.function(gradient, input_signature=signature, autograph=False)


def _noise(rng: np.random.Generator, count: int, shape: tuple[int, int, int]) -> _Floats:
    """Generate noise whose amplitude falls with frequency as 1/f, as in photos (Field 1987, J. Opt. Soc. Am. A 4).

    Returns:
        (count, height, width, channels) float32 in [0, 1], around 0.5 with a standard deviation of 0.2.
    """
    height, width, channels = shape
    rows, columns = np.fft.fftfreq(height)[:, None], np.fft.rfftfreq(width)
    frequency = np.maximum(np.hypot(rows, columns), 1 / max(height, width))
    white = rng.standard_normal((count, channels, height, width))
    pink = np.fft.irfft2(np.fft.rfft2(white) / frequency, (height, width))
    pixels: _Floats = (0.5 + 0.2 * pink / pink.std()).clip(0, 1).astype(np.float32)
    return pixels.transpose(0, 2, 3, 1)
