"""Run both models on one shard of the images: a task from JSON data to JSON data, for this process or a cluster.

The result is a tally, never images. It does not depend on the number of threads, nor on how the images were divided.
"""

from __future__ import annotations

import contextlib
import json
import platform
import queue
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeq.cluster.worker_run import at_end_of_run, stored_file
from edgeq.comparison.image_data import content_of, read_shard
from edgeq.comparison.pair import NamedImage, Outputs, Pair
from edgeq.comparison.tally import Tally
from edgeq.errors import ImageError
from edgeq.execution.backend import Backend
from edgeq.execution.machine import cpu_features
from edgeq.runtime import Model
from edgeq.runtime.admission import is_trusting, trusting
from edgeq.tflite.metadata import Overrides
from edgeq.threads import run_in_order

__all__ = ["close_models", "compare_shard", "describe"]


def describe(pair: Pair) -> dict[str, Any]:
    """Return both models and their settings as JSON data, with which `compare_shard` opens them again."""
    return {
        "reference": _describe(pair.reference),
        "candidate": _describe(pair.candidate),
        "trust": is_trusting(),
    }


def _describe(model: Model) -> dict[str, Any]:
    spec = model.preprocessing
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        "runtime": model.runtime,
        "normalization": [list(spec.mean), list(spec.std)],
        "channels": spec.channels,
        "crop": spec.crop,
        "labels": None if model.labels == model.metadata.labels else list(model.labels),
    }


def _open(model: dict[str, Any]) -> Model:
    mean, std = model["normalization"]
    labels = None if model["labels"] is None else tuple(model["labels"])
    overrides = Overrides((tuple(mean), tuple(std)), model["channels"], model["crop"], labels)
    return Model(model["path"], runtime=model["runtime"], overrides=overrides)


def compare_shard(
    models: dict[str, Any],
    shard: dict[str, Any],
    threads: int = 1,
    folder: str | None = None,
    *,
    backend: Backend | None = None,
    on_image: Callable[[], object] = lambda: None,
) -> dict[str, Any]:
    """Run both models on every image of a shard.

    Args:
        models: both models, see `describe`. The copies of their files that a worker of a cluster has take precedence.
        shard: the images, see `edgeq.comparison.image_data`.
        threads: number of threads, each with its own interpreters.
        folder: the folder that relative paths of images start from; None for the working folder.
        backend: the backend that runs the candidate, only in the calling process; None for this process.
        on_image: called after each image.

    Returns:
        ``tally``: the sums, see `Tally.to_json`; ``processor``: its architecture and vector instruction sets.

    Raises:
        InputError: the data or a model is unusable.
        OSError: the data cannot be read; trying again may help.
    """
    at_end_of_run(close_models)
    here = {side: _stored(models[side]) for side in ("reference", "candidate")} | {"trust": models["trust"]}
    pairs = _Pairs(here, backend) if backend else _pairs(json.dumps(here))
    tally = Tally(pairs.labels)

    def run(image: NamedImage) -> tuple[NamedImage, Outputs | ImageError]:
        without_content = replace(image, content=None)
        try:
            if image.content is None:
                image = replace(image, content=content_of(image.name, folder))
            with pairs.take() as pair:
                return without_content, pair.run(image)
        except ImageError as error:
            return without_content, error

    for image, outputs in run_in_order(run, read_shard(shard, folder), threads):
        if isinstance(outputs, ImageError):
            tally.skip(image.name, str(outputs).removeprefix(f"{image.name}: "))
        else:
            tally.add(image, outputs)
        on_image()
    return {"tally": tally.to_json(), "processor": [platform.machine(), *cpu_features()]}


def _stored(model: dict[str, Any]) -> dict[str, Any]:
    """Replace the path of a model by that of this worker's copy, if there is one."""
    return {**model, "path": str(stored_file(model["sha256"]) or Path(model["path"]))}


class _Pairs:
    """Open pairs of models, each of which one thread uses at a time."""

    def __init__(self, models: dict[str, Any], backend: Backend | None = None) -> None:
        self._models, self._backend = models, backend
        self._free: queue.SimpleQueue[Pair] = queue.SimpleQueue()
        pair = self._open()
        self.labels = pair.alignment.labels
        self._free.put(pair)

    @contextlib.contextmanager
    def take(self) -> Iterator[Pair]:
        """Lend a pair that no other thread uses; open another one if there is none."""
        try:
            pair = self._free.get_nowait()
        except queue.Empty:
            pair = self._open()
        try:
            yield pair
        finally:
            self._free.put(pair)

    def _open(self) -> Pair:
        with trusting(self._models["trust"]):
            return Pair(_open(self._models["reference"]), _open(self._models["candidate"]), self._backend)


@lru_cache(maxsize=1)
def _pairs(models: str) -> _Pairs:
    return _Pairs(json.loads(models))


def close_models() -> None:
    """Forget the models that this process opened for its last shards."""
    _pairs.cache_clear()
