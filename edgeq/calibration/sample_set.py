"""Choose the samples of a representative dataset for a model of plain tensors."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeq.calibration.representative import MINIMUM_IMAGES, record_of, shipped_images
from edgeq.errors import InputError
from edgeq.progress import Progress, no_progress
from edgeq.samples import Sample, SampleReader, find_samples

__all__ = ["SampleSet", "choose_samples"]


@dataclass(frozen=True)
class SampleSet:
    """The samples that a model of plain tensors is calibrated on.

    Attributes:
        folder: the folder or the file that the samples come from; None if the files were listed one by one.
        files: each sample's file; if it holds several, with the sample's number, as in ``data.npz[3]``.
        samples: the samples: one float32 array per input, by name.
        skipped: files that could not be used, each with the reason.
        seed: random seed of the choice.
        digests: SHA-256 digest of each sample, in hexadecimal.
    """

    folder: Path | None
    files: tuple[Path, ...]
    samples: tuple[Sample, ...]
    skipped: tuple[tuple[Path, str], ...]
    seed: int
    digests: tuple[str, ...]

    def provenance(self) -> dict[str, Any]:
        """Return the record of this set that a calibrated model stores, see `record_of`."""
        return record_of(self.digests, self.seed)


def choose_samples(
    source: str | Path | Sequence[str | Path] | None,
    reader: SampleReader,
    count: int = 100,
    seed: int = 0,
    progress: Progress = no_progress,
) -> SampleSet:
    """Choose up to `count` samples at random. Unusable files and duplicates are skipped.

    Args:
        source: see `edgeq.samples.find_samples`; None for the images that come with edgeq, if the model takes images.
        reader: reads the samples.
        count: number of samples to choose.
        seed: random seed of the shuffle; the same seed and files give the same set.
        progress: called with ("Reading calibration samples", done, count).

    Raises:
        InputError: there is no source, it does not exist, or there are fewer than `MINIMUM_IMAGES` usable samples.
    """
    if count < MINIMUM_IMAGES:
        raise InputError(f"calibration count {count}: must be at least {MINIMUM_IMAGES}")
    if source is None:
        if reader.preprocessing is None:
            listed = ", ".join(f"{spec.name} {spec.shape}" for spec in reader.inputs)
            raise InputError(
                f"{reader.model}: needs calibration data; give --calib a folder of .npz files or one file with the "
                f"inputs {listed}"
            )
        source = shipped_images()
    found = find_samples(source, reader)
    numbers = list(range(len(found.names)))
    random.Random(seed).shuffle(numbers)
    chosen: list[int] = []
    samples: list[Sample] = []
    digests: dict[str, str] = {}
    unusable: list[tuple[Path, str]] = []
    for number in numbers:
        if len(chosen) == count:
            break
        name = found.names[number]
        try:
            sample, digest = found.read(number), found.digest(number)
        except InputError as error:
            unusable.append((Path(name), str(error).removeprefix(f"{name}: ")))
            continue
        if digest in digests:
            unusable.append((Path(name), f"the same as {Path(digests[digest]).name}"))
            continue
        chosen.append(number)
        samples.append(sample)
        digests[digest] = name
        progress("Reading calibration samples", len(chosen), count)
    if len(chosen) < MINIMUM_IMAGES:
        first = f"; {unusable[0][0]}: {unusable[0][1]}" if unusable else ""
        raise InputError(
            f"{found.source or 'the list of files'}: {len(chosen)} usable samples; calibration needs at least "
            f"{MINIMUM_IMAGES}, better 100, like those the model will see{first}"
        )
    files = tuple(Path(found.names[number]) for number in chosen)
    return SampleSet(found.source, files, tuple(samples), (*unusable, *found.skipped), seed, tuple(digests))
