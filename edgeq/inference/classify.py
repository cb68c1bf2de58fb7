"""Classify one image, or many: several at the same time, or decoding the next one in the background.

NumPy and the runtime are imported inside functions, so that the first image can be decoded while they are being loaded.
"""

from __future__ import annotations

import sys
from collections.abc import Generator, Iterable, Iterator, Sequence
from io import BytesIO
from pathlib import Path
from threading import Thread
from time import perf_counter
from typing import TYPE_CHECKING, NamedTuple

from edgeq.classification import Classification
from edgeq.errors import ImageError, InputError
from edgeq.images import Source, expand, source_name
from edgeq.inference.in_parallel import FEWEST_IMAGES, classify_decoded, classify_in_parallel, copies_that_fit
from edgeq.progress import Progress, no_progress
from edgeq.runtime import available_cores
from edgeq.tflite.metadata import ModelMetadata, Overrides, read_metadata

if TYPE_CHECKING:
    from PIL import Image

    from edgeq.preprocessing import Preprocessing
    from edgeq.runtime import Model

__all__ = ["Loading", "classify", "classify_all", "load_model"]

MOST_THREADS = 4  # the cores of a Raspberry Pi; a small network gains nothing from more
_PATIENCE_S = 1.0  # limits the wait for a background thread, because standard input may never end


class Loading(NamedTuple):
    """The options for loading a model; see `classify`."""

    runtime: str | None = None
    threads: int | None = None
    kernels: str = "default"
    overrides: Overrides | None = None


def classify(
    image: Source,
    model: str | Path | Model,
    *,
    top: int = 5,
    runtime: str | None = None,
    threads: int | None = None,
    kernels: str = "default",
    overrides: Overrides | None = None,
) -> Classification:
    """Classify one image.

    Args:
        image: the image, see :data:`edgeq.images.Source`.
        model: a .tflite file, or a loaded `Model`. For several images, loading the model only once is much faster.
        top: number of predictions to return.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        threads: number of threads that the interpreter may use; None for the number of cores, up to 4.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        overrides: preprocessing and labels to use instead of the file's.

    Returns:
        The predictions, and the time of each step. The result's ``error`` is None.

    Raises:
        ImageError: the image cannot be decoded.
        ModelError: the model cannot be loaded or run.
        InputError: the options do not fit the file, or options for loading are given with a loaded model.
        RuntimeUnavailableError: the requested runtime, or every runtime, is missing or unusable.
    """
    results = _classify_each(iter([image]), model, top, Loading(runtime, threads, kernels, overrides))
    result = next(results)
    results.close()
    if result.error is not None:
        raise result.error
    return result


def classify_all(
    images: str | Path | Iterable[Source],
    model: str | Path | Model,
    *,
    top: int = 5,
    runtime: str | None = None,
    threads: int | None = None,
    kernels: str = "default",
    overrides: Overrides | None = None,
    on: str | Sequence[str] = (),
    send_images: bool = False,
    progress: Progress = no_progress,
) -> Generator[Classification, None, None]:
    """Classify images, in order.

    A folder, a pattern or a list of many images is classified on `threads` threads, each with a copy of the model that
    runs on one thread: one image at a time per core is faster than all cores on one image. A loaded `Model`, and any
    other iterable of images, is used one image at a time, and the next one is decoded in a background thread meanwhile.

    This is a generator: nothing happens before the first result is requested. `images` may itself be an endless
    generator, such as a camera's frames; it runs in the background thread. Close this generator to stop early.

    Args:
        images: a file, a folder, a pattern such as ``photos/*.jpg``, or ``-`` for standard input; or an iterable of
            these and of other images, see :data:`edgeq.images.Source`.
        model: a .tflite file, or a loaded `Model`.
        top: number of predictions to return per image.
        runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest runtime.
        threads: number of threads in total; None for the number of cores, up to 4.
        kernels: a name in ``edgeq.runtime.KERNELS``.
        overrides: preprocessing and labels to use instead of the file's.
        on: devices to run the model on, ``[user@]host[:port]``, all at the same time. The results of one device follow
            those of another, after all devices have finished. Streams and endless generators are not supported.
        send_images: whether devices decode the images, which must be files. Otherwise this host preprocesses them and
            sends the tensors.
        progress: called while files are sent to one device; for several devices, with the number that have finished.

    Yields:
        One result per image, in order. An image that cannot be decoded, or a device that fails, gives a result with an
        ``error``; the others are not affected.

    Raises:
        ModelError: the model cannot be loaded or run on this host.
        InputError: a folder contains no images, the options do not fit the file, options for loading are given with a
            loaded model, or devices do not support such images.
        RuntimeUnavailableError: the requested runtime, or every runtime, is missing or unusable.
    """
    sources = _sources([images] if isinstance(images, str | Path) else images)
    if on:
        from edgeq.inference.on_devices import classify_on  # imported here: only devices need SSH

        hosts = [on] if isinstance(on, str) else on
        loaded = load_model(model, Loading(overrides=overrides))
        there = (runtime, threads or MOST_THREADS, kernels)
        yield from classify_on(hosts, list(sources), loaded, top, *there, send_images, progress)
        return
    loading = Loading(runtime, threads, kernels, overrides)
    known = _known_files(images)
    copies = min(threads or default_threads(), len(known))
    if len(known) >= FEWEST_IMAGES and copies > 1 and isinstance(model, str | Path):
        metadata, one_thread = read_metadata(model) if Path(model).is_file() else None, loading._replace(threads=1)
        copies = copies_that_fit(model, copies) if metadata else 1
        if copies > 1:
            yield from classify_in_parallel(known, copies, lambda: load_model(model, one_thread, metadata), top)
            return
    yield from _classify_each(sources, model, top, loading)


def _known_files(images: str | Path | Iterable[Source]) -> list[Source]:
    """Return all images, if these are files that are known now; else none."""
    if not isinstance(images, str | Path | list | tuple):
        return []
    try:
        found = list(_sources([images] if isinstance(images, str | Path) else images))
    except InputError:  # to be raised after the images before it
        return []
    return found if all(isinstance(source, str | Path) and source != "-" for source in found) else []


def default_threads() -> int:
    """Return the number of threads to use if the user gives none."""
    return min(MOST_THREADS, available_cores())


def _sources(images: Iterable[Source]) -> Iterator[Source]:
    """Yield the images, with folders and patterns expanded to their files."""
    for image in images:
        if isinstance(image, str | Path):
            yield from expand([str(image)])[0]
        else:
            yield image


def _classify_each(
    sources: Iterator[Source], model: str | Path | Model, top: int, loading: Loading
) -> Generator[Classification, None, None]:
    """Classify images on this host. The first one is decoded while the model loads, if the file has preprocessing."""
    metadata = read_metadata(model) if isinstance(model, str | Path) and Path(model).is_file() else None
    spec = metadata.preprocessing if metadata else None
    if spec is None:
        model = load_model(model, loading, metadata)
        spec = model.preprocessing
    elif loading.overrides is not None:
        spec = loading.overrides.applied(spec)
    ahead = _Ahead(sources, spec)
    if isinstance(model, str | Path):
        model = load_model(model, loading, metadata)
    try:
        while ahead.wait():
            current, ahead = ahead, _Ahead(sources, spec)
            yield current.classified(model, top)
    except GeneratorExit:
        ahead.join(_PATIENCE_S)  # the caller may close the images' source next
        raise


class _Ahead(Thread):
    """Fetch the next image and decode it in the background."""

    def __init__(self, sources: Iterator[Source], preprocessing: Preprocessing) -> None:
        super().__init__(daemon=True)
        self._sources, self._preprocessing = sources, preprocessing
        self._file: str | None = None
        self._image: Image.Image | None = None
        self._error: BaseException | None = None
        self._decode_ms = 0.0
        self.start()

    def run(self) -> None:
        try:
            source = next(self._sources)
            self._file = source_name(source)
            start = perf_counter()
            self._image = self._preprocessing.decode(_read_stdin() if self._file == "-" else source)
            self._decode_ms = (perf_counter() - start) * 1000
        except StopIteration:
            pass
        except BaseException as error:  # `wait` raises it in the thread that waits
            self._error = error

    def wait(self) -> bool:
        """Wait for the image.

        Returns:
            Whether there is an image, even if it could not be decoded.

        Raises:
            BaseException: the exception that the source of the images raised.
        """
        self.join()
        if self._error is not None and (self._file is None or not isinstance(self._error, ImageError)):
            raise self._error
        return self._file is not None

    def classified(self, model: Model, top: int) -> Classification:
        """Classify the image with a model."""
        if isinstance(self._error, ImageError):
            return Classification(self._file, error=self._error)
        assert self._image is not None
        assert self._file is not None
        return classify_decoded(self._file, self._image, self._decode_ms, model, top)


def _read_stdin() -> BytesIO:
    """Read all of standard input, without Python's buffer: a waiting thread would hold its lock at exit."""
    with open(sys.stdin.fileno(), "rb", buffering=0, closefd=False) as stream:
        content = BytesIO(stream.readall())
    content.name = "standard input"  # for error messages
    return content


def load_model(model: str | Path | Model, loading: Loading, metadata: ModelMetadata | None = None) -> Model:
    """Return the model, loaded with these options if it is a file."""
    if not isinstance(model, str | Path):
        if loading != Loading():
            raise InputError(
                f"{model.path}: is loaded already; give Model() its runtime, threads, kernels and overrides"
            )
        return model
    from edgeq.runtime import Model

    threads = loading.threads or default_threads()
    return Model(model, **loading._replace(threads=threads)._asdict(), metadata=metadata)
