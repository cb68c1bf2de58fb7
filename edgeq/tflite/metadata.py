"""Metadata that travels inside a .tflite file, so that a user of the model needs no other file.

edgeq keeps two members in the zip archive behind the model (`edgeq.tflite.archive`): ``labels.txt``, one label per
line, as every tool expects it, and ``edgeq.json``, everything else. From files of other tools, the label file and the
normalization of the standard TFLite Metadata are read.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from edgeq.errors import InputError, ModelError
from edgeq.preprocessing import Preprocessing
from edgeq.tflite.archive import open_archive

__all__ = [
    "FINGERPRINT_LENGTH",
    "LABELS_MEMBER",
    "METADATA_MEMBER",
    "ModelMetadata",
    "Overrides",
    "parse_labels",
    "read_labels",
    "read_metadata",
    "read_standard_normalization",
]

LABELS_MEMBER = "labels.txt"
METADATA_MEMBER = "edgeq.json"
_FORMAT_VERSION = 1
FINGERPRINT_LENGTH = 16
"""Hexadecimal digits kept of the SHA-256 of an image file that a model was calibrated on."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says about itself.

    Attributes:
        labels: one per class, in the order of the outputs; empty where unknown.
        preprocessing: how images become inputs; None where the file does not say.
        output: ``probabilities`` or ``logits``; None where unknown.
        provenance: where the file comes from: network, format, digests of parent and calibration set, tool
            versions; plain JSON data.
        held_out: fingerprints of the photos that the network was not trained on; calibration prefers them.
    """

    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    output: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()

    @property
    def calibrated_on(self) -> frozenset[str]:
        """Fingerprints of the image files that the model was calibrated or refined on: the start of their SHA-256."""
        records = (self.provenance.get(key) or {} for key in ("calibration", "refinement"))
        return frozenset(fingerprint for record in records for fingerprint in record.get("fingerprints", ()))

    def to_members(self) -> dict[str, bytes]:
        """The zip members that hold this, by name."""
        document: dict[str, Any] = {
            "format_version": _FORMAT_VERSION,
            "preprocessing": self.preprocessing and self.preprocessing.to_json(),
            "output": self.output,
            "provenance": self.provenance,
        }
        if self.held_out:
            document["held_out"] = list(self.held_out)
        members = {METADATA_MEMBER: json.dumps(document, indent=1, sort_keys=True).encode()}
        if self.labels:
            members[LABELS_MEMBER] = "".join(f"{label}\n" for label in self.labels).encode()
        return members


@dataclass(frozen=True)
class Overrides:
    """What a user states in place of the file; None keeps what the file says.

    Attributes:
        normalization: mean and std, see :func:`edgeq.preprocessing.parse_normalization`.
        channels: ``RGB``, ``BGR`` or ``L``.
        crop: share of the picture that the centre crop keeps, in (0, 1].
        labels: one per class.
    """

    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    channels: str | None = None
    crop: float | None = None
    labels: tuple[str, ...] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return a preprocessing with these values in place of its own."""
        mean, std = self.normalization or (preprocessing.mean, preprocessing.std)
        channels = self.channels or preprocessing.channels
        crop = preprocessing.crop if self.crop is None else self.crop
        return replace(preprocessing, mean=mean, std=std, channels=channels, crop=crop)


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read what a .tflite file says about itself.

    Labels are also found in files of other tools, which keep them in a zip member of any name ending in .txt.

    Returns:
        The metadata, an empty `ModelMetadata` for a file without any and for one that cannot be read at all.

    Raises:
        ModelError: the file carries metadata of edgeq's that cannot be read.
    """
    try:
        with Path(path).open("rb") as file:
            return _read(file, path)
    except OSError:  # the runtime that is to load the file says why
        return ModelMetadata()


def _read(file: IO[bytes], path: str | Path) -> ModelMetadata:
    try:
        archive = open_archive(file)
        if archive is None:
            return ModelMetadata()
        names = archive.namelist()
        ours = METADATA_MEMBER in names
        text_members = [LABELS_MEMBER] if LABELS_MEMBER in names else [n for n in names if n.endswith(".txt")]
        labels: tuple[str, ...] = ()
        if text_members:
            labels = parse_labels(archive.read(text_members[0]).decode("utf-8-sig", "strict" if ours else "replace"))
        if not ours:
            return ModelMetadata(labels)
        document = json.loads(archive.read(METADATA_MEMBER))
        version = document["format_version"]
        if version > _FORMAT_VERSION:
            raise ModelError(f"{path}: written by a newer edgeq (metadata version {version}); update edgeq")
        preprocessing = document["preprocessing"] and Preprocessing.from_json(document["preprocessing"])
        held_out = tuple(document.get("held_out", ()))
        return ModelMetadata(labels, preprocessing, document["output"], document["provenance"], held_out)
    except ModelError:
        raise
    except Exception as error:  # zipfile raises nearly anything on damaged archives
        raise ModelError(f"{path}: its metadata is damaged ({error!r}); convert the model again") from None


def read_standard_normalization(path: str | Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Read mean and std from a file's standard TFLite Metadata.

    Returns:
        Both in pixel values (0 to 255), one or one per channel; None where the file does not state them.
    """
    from edgeq.tflite import flatbuffer, schema  # only for files of other tools

    content = Path(path).read_bytes()
    try:
        model = flatbuffer.root(content)
        for entry in model.tables(schema.Model.METADATA):
            if entry.raw(schema.Metadata.NAME) != b"TFLITE_METADATA":
                continue
            buffer = model.tables(schema.Model.BUFFERS)[entry.scalar(schema.Metadata.BUFFER, "<I")]
            metadata = flatbuffer.root(buffer.raw(schema.Buffer.DATA))
            image = metadata.tables(schema.ModelMetadata.SUBGRAPHS)[0].tables(schema.SubgraphMetadata.INPUTS)[0]
            for unit in image.tables(schema.TensorMetadata.PROCESS_UNITS):
                options = unit.table(schema.ProcessUnit.OPTIONS)
                if options and unit.scalar(schema.ProcessUnit.TYPE, "<b") == schema.ProcessUnit.IS_NORMALIZATION:
                    return options.floats(schema.NormalizationOptions.MEAN), options.floats(
                        schema.NormalizationOptions.STD
                    )
    except (struct.error, IndexError):
        return None  # no metadata, or none that can be read: the quantization may still tell
    return None


def parse_labels(text: str) -> tuple[str, ...]:
    """Parse one label per line; a leading index (``7  frog`` or ``7: frog``, counted from 0 in order) is dropped."""
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    heads = [line.split(maxsplit=1) for line in lines]
    if heads and all(len(h) == 2 and h[0].rstrip(":,") == str(i) for i, h in enumerate(heads)):
        return tuple(head[1].strip() for head in heads)
    return tuple(line.strip() for line in lines)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read labels from a text file, or from a folder of photos: the names of its sub-folders, sorted.

    Raises:
        InputError: there are no labels, or they cannot be read.
    """
    source = Path(path)
    if source.is_dir():
        labels = tuple(sorted(p.name for p in source.iterdir() if p.is_dir() and not p.name.startswith(".")))
        if not labels:
            raise InputError(f"{path}: has no sub-folders to take labels from")
        return labels
    try:
        labels = parse_labels(source.read_text(encoding="utf-8-sig"))
    except OSError as error:
        raise InputError(f"{path}: cannot read labels ({error.strerror})") from None
    except UnicodeDecodeError:
        raise InputError(f"{path}: labels must be UTF-8 text, one per line") from None
    if not labels:
        raise InputError(f"{path}: holds no labels")
    return labels
