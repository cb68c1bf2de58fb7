"""Transfer learning: what is frozen runs once, and what learns sees its outputs again and again.

A network is cut in two. The front half is frozen, BatchNormalization included, so what it makes of a picture
never changes: it is computed once for some augmented views of each photo, and kept in a file. Epochs then cost
only the back half.
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
_LARGEST_HALF = 65504.0  # of float16


def cut_at_pooling(model: Any) -> Any:
    """The output of the last global average pooling, which all but the head has been through."""
    import keras

    poolings = [layer for layer in model.layers if isinstance(layer, keras.layers.GlobalAveragePooling2D)]
    return poolings[-1].output


def cut_before_blocks(model: Any, count: int) -> Any:
    """The input of the last `count` inverted residual blocks, which is the output of the block before them.

    Raises:
        InputError: it has fewer blocks.
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
    """Keep every BatchNormalization in inference mode for good: a handful of photos would spoil its statistics."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.trainable = False


@dataclass(frozen=True)
class Views:
    """What a frozen half made of the photos.

    Attributes:
        training: (N, ...) float16 for each view of the photos: a plain one, then augmented ones.
        validation: (M, ...) float16.
    """

    training: tuple[npt.NDArray[np.float16], ...]
    validation: npt.NDArray[np.float16]

    def examples(self, seed: int) -> Callable[[npt.NDArray[np.int64], int], Any]:
        """Draws one view of each photo of a step."""

        def draw(places: npt.NDArray[np.int64], step: int) -> Any:
            views = np.random.default_rng((seed, step)).integers(len(self.training), size=len(places))
            drawn = [self.training[view][place] for view, place in zip(views, places, strict=True)]
            return np.stack(drawn).astype(np.float32)

        return draw

    def validation_inputs(self, part: slice) -> Any:
        """The validation photos of a slice, float32."""
        return self.validation[part].astype(np.float32)

    def through(self, model: Any) -> Views:
        """What a further frozen model makes of these, kept in memory."""

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
    """Run the frozen half over all photos, or take what an interrupted training has left of that.

    Args:
        front: the frozen half.
        plain: decodes a slice of the training photos as inference sees them, (n, height, width, C) uint8.
        training: (N, H, W, C) uint8, with edges for crops.
        validation: (M, height, width, C) uint8.
        preprocessing: of the network.
        augmentation: of all views but the first.
        count: views of each training photo.
        seed: of the augmentation.
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
            del kept  # written out
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

    run = tf.function(lambda x: model(x, training=False), reduce_retracing=True)
    return lambda x: run(tf.convert_to_tensor(x)).numpy()


def _halved(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float16]:
    return np.clip(values, -_LARGEST_HALF, _LARGEST_HALF).astype(np.float16)
