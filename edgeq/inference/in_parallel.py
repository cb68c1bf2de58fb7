"""Classify many images at the same time, each on one thread with a copy of the model.

NumPy and the runtime are imported by the model, so that importing this module takes no time.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from queue import SimpleQueue
from time import perf_counter
from typing import TYPE_CHECKING

from edgeq.classification import Classification, top_predictions
from edgeq.errors import ImageError
from edgeq.images import Source, source_name
from edgeq.memory import available_bytes

if TYPE_CHECKING:
    from PIL import Image

    from edgeq.runtime import Model

__all__ = ["FEWEST_IMAGES", "classify_decoded", "classify_in_parallel", "copies_that_fit"]

FEWEST_IMAGES = 8
"""For fewer images, loading copies of the model takes longer than it saves."""

_BYTES_PER_FILE_BYTE = 3  # memory of a copy per byte of the file: the file itself, packed weights, activations
_SHARE_OF_MEMORY = 0.5  # of the available memory that copies may use


def copies_that_fit(path: str | Path, wanted: int) -> int:
    """Return how many copies of a model fit into memory: at least 1, at most `wanted`."""
    available = available_bytes()
    if available is None:
        return wanted
    size = _BYTES_PER_FILE_BYTE * max(1, Path(path).stat().st_size)
    return max(1, min(wanted, int(_SHARE_OF_MEMORY * available / size)))


def classify_in_parallel(
    sources: Sequence[Source], copies: int, load: Callable[[], Model], top: int
) -> Generator[Classification, None, None]:
    """Classify images on several threads, with the results in the order of the images.

    All copies are loaded before the first result, because loading silences standard output for a moment.

    Args:
        sources: the images.
        copies: number of copies of the model, and of images at the same time.
        load: loads a copy of the model, for one thread.
        top: number of predictions per image.
    """
    from edgeq.threads import run_in_order  # imported here: one image needs no threads

    models: SimpleQueue[Model] = SimpleQueue()
    for _ in range(copies):
        models.put(load())

    def work(source: Source) -> Classification:
        file, model = source_name(source), models.get()
        try:
            start = perf_counter()
            image = model.preprocessing.decode(source)
            return classify_decoded(file, image, (perf_counter() - start) * 1000, model, top)
        except ImageError as error:
            return Classification(file, error=error)
        finally:
            models.put(model)

    yield from run_in_order(work, sources, copies)


def classify_decoded(file: str, image: Image.Image, decode_ms: float, model: Model, top: int) -> Classification:
    """Classify a decoded image.

    Args:
        file: the image's name.
        image: the image, from ``model.preprocessing.decode``.
        decode_ms: how long decoding took, in milliseconds.
        model: the model.
        top: number of predictions.
    """
    start = perf_counter()
    tensor = model.tensor(model.preprocessing.resample(image))
    ready = perf_counter()
    output = model.invoke(tensor)
    invoke_ms = (perf_counter() - ready) * 1000
    times_ms = {"decode": decode_ms, "preprocess": (ready - start) * 1000, "invoke": invoke_ms}
    predictions = top_predictions(model.probabilities(output), model.labels, top)
    return Classification(file, tuple(predictions), {step: round(ms, 3) for step, ms in times_ms.items()})
