"""Read samples for models of plain tensors: .npz and .npy files with the inputs' real numbers, or images.

A sample is a dictionary with one float32 array per input, by the input's name and of the input's shape.
"""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError, UnknownNormalizationError, one_line
from edgeq.files import sha256_of_file
from edgeq.images import NOT_AN_IMAGE, files_below, is_array_file, is_image
from edgeq.preprocessing import Preprocessing
from edgeq.runtime import TensorSpec
from edgeq.runtime.model import preprocessing_of
from edgeq.tflite.metadata import ModelMetadata, Overrides
from edgeq.tflite.task import image_layout

__all__ = ["NOT_A_SAMPLE", "Sample", "SampleReader", "Samples", "find_samples", "holds_arrays"]

Sample = dict[str, npt.NDArray[np.float32]]
"""One array per input, by the input's name and of the input's shape."""

NOT_A_SAMPLE = "neither .npz nor .npy"
"""The reason that is reported for a file in a folder that was skipped without being opened."""


def holds_arrays(source: object) -> bool:
    """Return whether samples are arrays: a .npz or .npy file, a list with one, or a folder with some and no images."""
    if isinstance(source, str | Path):
        if Path(source).is_dir():
            files = files_below(source)
            return any(map(is_array_file, files)) and not any(map(is_image, files))
        return is_array_file(source)
    return isinstance(source, list | tuple) and any(isinstance(s, str | Path) and is_array_file(s) for s in source)


@dataclass(frozen=True)
class SampleReader:
    """Reads samples for the inputs of a model.

    Attributes:
        model: the model's name in error messages.
        inputs: the model's inputs.
        preprocessing: how images become the only input; None if the model does not take images.
    """

    model: str
    inputs: tuple[TensorSpec, ...]
    preprocessing: Preprocessing | None = None

    @classmethod
    def of(
        cls,
        model: str | Path,
        inputs: Sequence[TensorSpec],
        metadata: ModelMetadata,
        overrides: Overrides | None = None,
    ) -> SampleReader:
        """Make a reader for a model, with the preprocessing of `overrides`, else that of the file.

        Raises:
            InputError: the preprocessing does not fit the model's input.
        """
        overrides, stated = overrides or Overrides(), metadata.preprocessing
        if len(inputs) != 1 or image_layout(inputs[0].shape) is None:
            if overrides != Overrides():
                raise InputError(f"{model}: takes no images, so it needs no normalization, channels, crop or labels")
            return cls(str(model), tuple(inputs))
        normalization = overrides.normalization or ((stated.mean, stated.std) if stated else None)
        if normalization is None:
            return cls(str(model), tuple(inputs))
        found = preprocessing_of(model, inputs[0].shape, normalization, stated, overrides)
        return cls(str(model), tuple(inputs), found)

    def read(self, path: Path) -> Sample:
        """Read a file with one sample.

        Raises:
            InputError: the file cannot be read, or its arrays do not fit the inputs.
            ImageError: the image cannot be decoded.
        """
        if is_image(path):
            return self.from_image(path)
        batches = self.read_batch(path)
        counts = {len(batch) for batch in batches.values()}
        if counts != {1}:
            raise InputError(f"{path}: holds {max(counts)} samples; a file in a folder or list holds one")
        return self.sample(batches, 0)

    def from_image(self, path: Path) -> Sample:
        """Preprocess an image for a model whose only input takes images."""
        (spec,) = self.inputs
        if self.preprocessing is None:
            if image_layout(spec.shape) is None:
                raise InputError(f"{path}: is an image, but {self.model} takes arrays of shape {spec.shape}; use .npz")
            raise UnknownNormalizationError(
                f"{self.model}: does not say how its input is normalized; give --normalize -1..1, 0..1, 0..255, "
                "imagenet or MEAN/STD"
            )
        values = self.preprocessing.normalize(self.preprocessing.pixels(path))
        if image_layout(spec.shape) == "NCHW":
            values = values.transpose(2, 0, 1)
        return {spec.name: values.reshape(spec.shape)}

    def read_batch(self, path: Path) -> dict[str, npt.NDArray[np.float32]]:
        """Read all samples of a file.

        Returns:
            One array per input, (samples, ...) float32, by name.

        Raises:
            InputError: the file cannot be read, or its arrays do not fit the inputs.
        """
        arrays = self._by_input(path, _load(path))
        batches = {spec.name: _batch(path, spec, arrays[spec.name]) for spec in self.inputs}
        counts = {name: len(batch) for name, batch in batches.items()}
        if len(set(counts.values())) > 1:
            listed = ", ".join(f"{count} of {name}" for name, count in counts.items())
            raise InputError(f"{path}: holds different numbers of samples: {listed}")
        if 0 in counts.values():
            raise InputError(f"{path}: holds no samples")
        return batches

    def sample(self, batches: Mapping[str, npt.NDArray[np.float32]], number: int) -> Sample:
        """Return one sample of what `read_batch` returns."""
        return {spec.name: batches[spec.name][number].reshape(spec.shape) for spec in self.inputs}

    def _by_input(self, path: Path, arrays: dict[str, npt.NDArray[Any]]) -> dict[str, npt.NDArray[Any]]:
        """Return the arrays of the inputs; for a model with one input, the only array may have any name."""
        names = [spec.name for spec in self.inputs]
        if len(names) == len(arrays) == 1:
            return dict(zip(names, arrays.values(), strict=True))
        missing = [name for name in names if name not in arrays]
        if missing:
            found = ", ".join(arrays) or "no arrays" if "" not in arrays else "one array without a name"
            raise InputError(
                f"{path}: has no array {missing[0]} (the model's inputs: {', '.join(names)}; found: {found})"
            )
        return arrays


@dataclass(frozen=True)
class Samples:
    """The samples in a folder, in a list of files or in one file. They are read when they are needed.

    Attributes:
        source: the folder or file; None for a list of files.
        names: name of each sample: its file, or the file and the sample's number, as in ``data.npz[3]``.
        skipped: files that are no samples, each with the reason.
        reader: reads the files.
        files: the file of each sample, or empty if all samples are in one file.
        batches: the samples if all are in one file: one array per input, (samples, ...) float32.
    """

    source: Path | None
    names: tuple[str, ...]
    skipped: tuple[tuple[Path, str], ...]
    reader: SampleReader
    files: tuple[Path, ...] = ()
    batches: dict[str, npt.NDArray[np.float32]] = field(default_factory=dict)

    def read(self, number: int) -> Sample:
        """Read one sample.

        Raises:
            InputError: the file cannot be read, or its arrays do not fit the inputs.
        """
        return self.reader.read(self.files[number]) if self.files else self.reader.sample(self.batches, number)

    def digest(self, number: int) -> str:
        """Return a SHA-256 digest of one sample, in hexadecimal: of its file or, if it shares one, of its numbers."""
        if self.files:
            return sha256_of_file(self.files[number])
        digest = hashlib.sha256()
        for name, batch in sorted(self.batches.items()):
            digest.update(name.encode() + b"\0" + np.ascontiguousarray(batch[number]).tobytes())
        return digest.hexdigest()


def find_samples(source: str | Path | Sequence[str | Path], reader: SampleReader) -> Samples:
    """List the samples of a folder, of a list of files, or of one file.

    Args:
        source: a folder, which is searched recursively, with one sample per ``.npz``, ``.npy`` or image file; a list
            of such files; or one ``.npz`` or ``.npy`` file with one or several samples in its first dimension.
        reader: reads the files.

    Raises:
        InputError: the source does not exist, holds no samples, or is one file that cannot be read.
    """
    if not isinstance(source, str | Path):
        files = tuple(map(Path, source))
        return Samples(None, tuple(map(str, files)), (), reader, files)
    path = Path(source)
    if path.is_dir():
        found = files_below(path)
        files = tuple(file for file in found if is_array_file(file) or (is_image(file) and _takes_images(reader)))
        if not files:
            wanted = ".npz or .npy files or images" if _takes_images(reader) else ".npz or .npy files"
            raise InputError(f"{path}: holds no {wanted}" + (f", only {len(found)} other files" if found else ""))
        others = [file for file in found if file not in set(files)]
        reason = NOT_AN_IMAGE if _takes_images(reader) else NOT_A_SAMPLE
        return Samples(path, tuple(map(str, files)), tuple((file, reason) for file in others), reader, files)
    if is_image(path):
        return Samples(path, (str(path),), (), reader, (path,))
    batches = reader.read_batch(path)
    count = len(next(iter(batches.values())))
    names = tuple(f"{path}[{number}]" for number in range(count)) if count > 1 else (str(path),)
    return Samples(path, names, (), reader, batches=batches)


def _takes_images(reader: SampleReader) -> bool:
    return len(reader.inputs) == 1 and image_layout(reader.inputs[0].shape) is not None


def _load(path: Path) -> dict[str, npt.NDArray[Any]]:
    """Read the arrays of a .npz or .npy file; the array of a .npy file has an empty name."""
    if not is_array_file(path):
        raise InputError(f"{path}: {'is no .npz or .npy file' if path.exists() else 'no such file or folder'}")
    try:
        loaded = np.load(path, allow_pickle=False)
        if isinstance(loaded, np.ndarray):
            return {"": loaded}
        with loaded:
            return {name: loaded[name] for name in loaded.files}
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror or one_line(error)})") from None
    except (ValueError, EOFError, zipfile.BadZipFile, KeyError) as error:
        raise InputError(f"{path}: is damaged or holds no plain numbers ({one_line(error)})") from None


def _batch(path: Path, spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    """Return an input's array as (samples, ...) float32."""
    if array.dtype.kind not in "fiub":
        raise InputError(f"{path}: {spec.name} has the type {array.dtype}; it must hold real numbers")
    one = spec.shape[1:]
    if array.shape in (one, spec.shape):
        array = array.reshape(1, *one)
    elif array.ndim != len(spec.shape) or array.shape[1:] != one:
        raise InputError(f"{path}: {spec.name} has shape {array.shape}, but the model takes {spec.shape}")
    values = np.asarray(array, np.float32)
    if not np.isfinite(values).all():
        raise InputError(f"{path}: {spec.name} contains NaN or infinity")
    return values
