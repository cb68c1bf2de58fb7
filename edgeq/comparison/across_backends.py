"""Comparing places: every image once, the very same tensor everywhere."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.comparison import read_images
from edgeq.comparison.metrics import shared_top1, top_set
from edgeq.errors import EdgeqError, ImageError, InputError
from edgeq.execution.backend import DevicePlace, LocalPlace
from edgeq.images import NOT_AN_IMAGE
from edgeq.progress import Progress, no_progress
from edgeq.runtime import Model

__all__ = ["Agreement", "Flip", "PlaceResult", "compare_places"]

Place = LocalPlace | DevicePlace


@dataclass(frozen=True)
class Flip:
    """An image whose most probable class a place sees otherwise than the reference.

    Attributes:
        file: the image.
        reference: label of the reference's class.
        place: label of the place's.
    """

    file: str
    reference: str
    place: str


@dataclass(frozen=True)
class PlaceResult:
    """What a place made of all images, against the reference.

    Attributes:
        name: ``here``, or the device.
        runtime: name and version.
        kernels: one of ``edgeq.runtime.KERNELS``.
        images: that it ran.
        differing_images: of them, those of which an output differs at all.
        values: outputs in all.
        differing_values: of them, those that differ.
        largest_difference: of two outputs: in integer steps, or for floats in their own unit.
        flips: images of which no most probable class is shared.
        error: why it ended early, or None.
    """

    name: str
    runtime: str
    kernels: str
    images: int
    differing_images: int
    values: int
    differing_values: int
    largest_difference: float
    flips: tuple[Flip, ...]
    error: str | None


@dataclass(frozen=True)
class Agreement:
    """How far one model's outputs differ from place to place.

    Attributes:
        model: the file.
        sha256: its digest.
        images: how many were run.
        skipped: files that could not be read, each with the reason.
        places: the first is the reference of all.
    """

    model: str
    sha256: str
    images: int
    skipped: tuple[tuple[str, str], ...]
    places: tuple[PlaceResult, ...]

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the names of the attributes."""
        return asdict(self)


def compare_places(
    model: Model, data: str | Path, places: Sequence[Place], progress: Progress = no_progress
) -> Agreement:
    """Run a model on every image in every place.

    Args:
        model: that all places have; it prepares the images.
        data: folder of images.
        places: the first is what the others are compared with. One that fails drops out, and the rest go on.
        progress: called with ("Comparing", images done, images in all).

    Raises:
        InputError: there are no images.
        EdgeqError: the first place failed.
    """
    tallies = [_Tally(place, model.labels) for place in places]
    skipped: list[tuple[str, str]] = []
    images, others = read_images(data)
    with ThreadPoolExecutor(len(places)) as pool:
        for done, path in enumerate(images):
            progress("Comparing", done, len(images))
            try:
                tensor = model.tensor(model.preprocessing.pixels(path))
            except ImageError as error:
                skipped.append((str(path), str(error).removeprefix(f"{path}: ")))
                continue
            outputs = list(pool.map(lambda tally: tally.run(tensor), tallies))  # noqa: B023 (done before the next)
            if outputs[0] is None:
                raise EdgeqError(tallies[0].error)
            for tally, output in zip(tallies, outputs, strict=True):
                if output is not None:
                    tally.add(str(path), outputs[0], output)
    progress("Comparing", len(images), len(images))
    if len(skipped) == len(images):
        raise InputError(f"{data}: none of its {len(images)} files is an image that can be read")
    results = tuple(tally.result() for tally in tallies)
    decoded = len(images) - len(skipped)
    skipped += [(str(path), NOT_AN_IMAGE) for path in others]
    return Agreement(str(model.path), model.sha256, decoded, tuple(skipped), results)


@dataclass
class _Tally:
    """The sums of one place."""

    place: Place
    labels: Sequence[str]
    error: str | None = None
    images: int = 0
    differing_images: int = 0
    values: int = 0
    differing_values: int = 0
    largest: float = 0.0
    flips: list[Flip] = field(default_factory=list)

    def run(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any] | None:
        """The place's output; None once it has failed."""
        if self.error is not None:
            return None
        try:
            return self.place.run(tensor)
        except EdgeqError as error:
            self.error = str(error)
            return None

    def add(self, file: str, reference: npt.NDArray[Any], output: npt.NDArray[Any]) -> None:
        expected, found = reference.reshape(-1), output.reshape(-1)
        differing = int(np.count_nonzero(expected != found))
        self.images += 1
        self.values += expected.size
        self.differing_values += differing
        self.differing_images += differing > 0
        self.largest = max(self.largest, float(np.abs(expected.astype(np.float64) - found.astype(np.float64)).max()))
        if shared_top1(top_set(expected), top_set(found)) == 0:
            self.flips.append(Flip(file, self._name(expected), self._name(found)))

    def result(self) -> PlaceResult:
        place = self.place
        counts = (self.images, self.differing_images, self.values, self.differing_values, self.largest)
        return PlaceResult(place.name, place.runtime, place.kernels, *counts, tuple(self.flips), self.error)

    def _name(self, output: npt.NDArray[Any]) -> str:
        index = int(output.argmax())
        return self.labels[index] if len(self.labels) == output.size else str(index)
