"""Images made from a network alone, for users who have no photos like those that it was trained on.

Images that cause the statistics which a network's BatchNormalization layers kept in training drive its
activations over much the same ranges, and that is what calibration needs. So, as in ZeroQ (Cai et al. 2020, arXiv
2001.00281, section 3.1), noise is changed by Adam until its statistics are near those.

Other than in that paper, each image is also drawn towards a class: behind the last BatchNormalization nothing
else holds the scores up, and where they stay far below those of photos, the INT8 file clips them.
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
"""Steps of the optimizer over all images. More bring the statistics nearer, and the INT8 file nothing."""

_BATCH = 25  # images whose statistics are matched together; more take more memory
_LARGEST_RATE = 0.03  # of Adam at first, as a share of the range of pixels; it falls to nothing along half a cosine
_DECAYS = (0.9, 0.99)  # of Adam's averages of the gradient and of its square
_CLASS_WEIGHT = 0.1  # of the cross-entropy, beside the squared distance of the statistics
_TINY = 1e-30  # keeps Adam's quotients finite; its usual 1e-7 is larger than these gradients

_Floats = npt.NDArray[np.float32]


def synthesize(
    network: WatchedNetwork,
    count: int = 100,
    seed: int = 0,
    steps: int = DEFAULT_STEPS,
    progress: Progress = no_progress,
) -> npt.NDArray[np.uint8]:
    """Make images that a network's BatchNormalization layers find ordinary.

    Args:
        network: whose layers these are.
        count: how many images.
        seed: of the noise that they begin as. On one machine, the same seed gives the same images.
        steps: of the optimizer.
        progress: called with ("Synthesizing images", steps done, steps in all).

    Returns:
        (count, height, width, 1 or 3) uint8: grey or RGB, as in files, also for a network that takes BGR.

    Raises:
        InputError: there is nothing to do.
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
    """The gradient of what is to become small, as a traced function.

    It maps pixels (N, height, width, channels) float32 in [0, 1] and the class of each, (N,) int64, to a tensor of
    the pixels' shape.
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
    """Noise whose amplitude falls with frequency as 1/f, as that of photos (Field 1987, J. Opt. Soc. Am. A 4).

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
