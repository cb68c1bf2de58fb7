"""Transfer learning: run the frozen layers once, store their outputs, and train the other layers on these.

A network is cut in two. The front half is frozen, including its BatchNormalization, so its output for a given image
never changes. It is computed once for some augmented views of each photo and stored in files. Each epoch then runs only
the back half.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.arrays import mapped_array
from edgeq.errors import InputError
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress
from edgeq.training.augmentation import Augmentation

__all__ = ["Views", "compute_views", "cut_at_pooling", "cut_before_blocks", "freeze_norms"]

_BLOCK = re.compile(r"(block_\d+|expanded_conv(?:_\d+)?)_")
_BATCH = 32
_LARGEST_HALF = 65504.0  # largest finite float16


def cut_at_pooling(model: Any) -> Any:
    """Return the tensor where the head begins: the output of the last global average pooling."""
    import keras

    poolings = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    return poolings[-1].output


def cut_before_blocks(model: Any, count: int) -> Any:
    """Return the input tensor of the last `count` inverted residual blocks.

    Raises:
        InputError: the model has too few blocks; the first one always stays frozen.
    """
    names = list(dict.fromkeys(match[1] for layer in model.layers if (match := _BLOCK.match(layer.name))))
    if count >= len(names):
        raise InputError(
            f"--fine-tune {count}: at most {len(names) - 1}, as {model.name} has {len(names)} blocks and the first "
            "stays frozen"
        )
    first = next(layer for layer in model.layers if layer.name.startswith(f"{names[-count]}_"))
    return first.input


def freeze_norms(model: Any) -> None:
    """Keep every BatchNormalization in inference mode. Its statistics would get worse on a small number of photos."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


@dataclass(frozen=True)
class Views:
    """The outputs of the frozen layers for all photos.

    Attributes:
        training: outputs for the training photos, (N, ...) float16: one array for the photos themselves, then one for
            each augmented view of them.
        validation: outputs for the validation photos, (M, ...) float16.
    """

    training: tuple[npt.NDArray[np.float16], ...]
    validation: npt.NDArray[np.float16]

    def examples(self, seed: int) -> Callable[[npt.NDArray[np.int64], int], Any]:
        """Return a function that makes a step's inputs: a random view of each of its photos."""

        def draw(places: npt.NDArray[np.int64], step: int) -> Any:
            views = np.random.default_rng((seed, step)).integers(len(self.training), size=len(places))
            drawn = [self.training[view][place] for view, place in zip(views, places, strict=True)]
            return np.stack(drawn).astype(np.float32)

        return draw

    def validation_inputs(self, part: slice) -> Any:
        """Return the outputs for a slice of the validation photos, as float32."""
        return self.validation[part].astype(np.float32)

    def through(self, model: Any) -> Views:
        """Run another frozen model on all outputs; the results are kept in memory."""

        def run(values: npt.NDArray[np.float16]) -> npt.NDArray[np.float16]:
            starts = range(0, len(values), _BATCH)
            return _halved(np.concatenate([forward(values[i : i + _BATCH].astype(np.float32)) for i in starts]))

        forward = _inference(model)
        return Views(tuple(run(view) for view in self.training), run(self.validation))


def compute_views(
    front: Any,
    plain: Callable[[slice], npt.NDArray[np.uint8]],
    training: npt.NDArray[np.uint8],
    validation: npt.NDArray[np.uint8],
    preprocessing: Preprocessing,
    augmentation: Augmentation,
    count: int,
    seed: int,
    scratch: Path,
    progress: Progress,
) -> Views:
    """Run the frozen layers on all photos. Results that an interrupted training left behind are reused.

    Args:
        front: the frozen half of the network.
        plain: decodes a slice of the training photos with the preprocessing of inference, (n, height, width, C) uint8.
        training: pixels of the training photos, (N, H, W, C) uint8, with a margin for random crops.
        validation: pixels of the validation photos, (M, height, width, C) uint8.
        preprocessing: the network's preprocessing.
        augmentation: augmentation of all views except the first.
        count: number of views of each training photo.
        seed: random seed of the augmentation.
        scratch: folder for the results.
        progress: called with ("Running the frozen layers", done, total).
    """
    import tensorflow as tf

    run = _inference(front)
    total, done = len(training) * count + len(validation), 0

    def through(name: str, photos: int, inputs: Callable[[slice], Any]) -> npt.NDArray[np.float16]:
        nonlocal done
        finished = scratch / f"{name}.npy"
        if not finished.exists():
            part = scratch / f"{name}.part"
            kept = mapped_array(part, np.float16, (photos, *front.output_shape[1:]))
            for start in range(0, photos, _BATCH):
                places = slice(start, min(start + _BATCH, photos))
                kept[places] = _halved(run(inputs(places)))
                progress("Running the frozen layers", done + places.stop, total)
            del kept  # unmap it, which writes it to the file
            part.replace(finished)
        done += photos
        result: npt.NDArray[np.float16] = np.load(finished, mmap_mode="r")
        return result

    def augmented(number: int) -> Callable[[slice], Any]:
        def inputs(places: slice) -> Any:
            key = tf.constant([seed, number * len(training) + places.start])
            return augmentation.apply(tf.constant(training[places]), preprocessing, key)

        return inputs

    views = [through("view-0", len(training), lambda places: preprocessing.normalize(plain(places)))]
    views += [through(f"view-{number}", len(training), augmented(number)) for number in range(1, count)]
    held_out = through("view-validation", len(validation), lambda places: preprocessing.normalize(validation[places]))
    return Views(tuple(views), held_out)


def _inference(model: Any) -> Callable[[Any], npt.NDArray[np.float32]]:
    import tensorflow as tf

    inputs = [tf.TensorSpec(model.input_shape, tf.float32)]  # of any batch size: traced once, which takes seconds
    run = tf.function(lambda x: model(x, training=False), input_signature=inputs, autograph=False)
    return lambda x: run(tf.convert_to_tensor(x)).numpy()


def _halved(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
