"""Metadata inside a .tflite file, so that a user of the model needs no other file.

edgeq stores two members in the zip archive behind the model (:mod:`edgeq.tflite.archive`): ``labels.txt`` has one label
per line, as all tools expect, and ``edgeq.json`` has everything else. In files from other tools, edgeq reads the label
file and the normalization in the standard TFLite Metadata.
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
"""Number of hexadecimal digits of an image file's SHA-256 digest that are stored as its fingerprint."""


@dataclass(frozen=True)
class ModelMetadata:
    """The metadata in a model's file.

    Attributes:
        labels: the classes' names, one per class, in the order of the outputs; empty if unknown.
        preprocessing: how images become inputs; None if the file does not state it.
        output: ``probabilities`` or ``logits``; None if unknown.
        provenance: how the file was made: network, format, digests of the source and of the calibration set, versions
            of tools; plain JSON data.
        held_out: fingerprints of the photos that were held out of training for evaluation; calibration does not use
            them either.
        task: ``tensors`` for a model that is no image classifier; None for a classifier, or if the file does not say.
    """

    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    output: str | None = None
    provenance: dict[str, Any] = field(default_factory=dict)
    held_out: tuple[str, ...] = ()
    task: str | None = None

    @property
    def calibrated_on(self) -> frozenset[str]:
        """Fingerprints of the image files that the model was calibrated or refined on: the start of their digests."""
        records = (self.provenance.get(key) or {} for key in ("calibration", "refinement"))
        return frozenset(fingerprint for record in records for fingerprint in record.get("fingerprints", ()))

    def to_members(self) -> dict[str, bytes]:
        """Return the content of the zip members that store this metadata, by name."""
        document: dict[str, Any] = {
            "format_version": _FORMAT_VERSION,
            "preprocessing": self.preprocessing and self.preprocessing.to_json(),
            "output": self.output,
            "provenance": self.provenance,
        }
        if self.held_out:
            document["held_out"] = list(self.held_out)
        if self.task:
            document["task"] = self.task
        members = {METADATA_MEMBER: json.dumps(document, indent=1, sort_keys=True).encode()}
        if self.labels:
            members[LABELS_MEMBER] = "".join(f"{label}\n" for label in self.labels).encode()
        return members


@dataclass(frozen=True)
class Overrides:
    """Settings of the user that replace those in a file. None keeps the file's.

    Attributes:
        normalization: mean and std, see :func:`edgeq.preprocessing.parse_normalization`.
        channels: channel order, ``RGB``, ``BGR`` or ``L``.
        crop: side of the centre crop, as a fraction of the largest box that fits into the image; in (0, 1].
        labels: the classes' names, one per class.
    """

    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    channels: str | None = None
    crop: float | None = None
    labels: tuple[str, ...] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """Return a copy of a preprocessing in which these settings replace its own."""
        mean, std = self.normalization or (preprocessing.mean, preprocessing.std)
        channels = self.channels or preprocessing.channels
        crop = preprocessing.crop if self.crop is None else self.crop
        return replace(preprocessing, mean=mean, std=std, channels=channels, crop=crop)


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read the metadata in a .tflite file.

    In files from other tools, only labels are found, in a zip member whose name ends in .txt.

    Returns:
        The metadata; empty if the file has none or cannot be opened.

    Raises:
        ModelError: the file's archive or its metadata is damaged, or a newer edgeq wrote it.
    """
    try:
        with Path(path).open("rb") as file:
            return _read(file, path)
    except OSError:  # loading the model reports the reason
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
        return ModelMetadata(
            labels, preprocessing, document["output"], document["provenance"], held_out, document.get("task")
        )
    except ModelError:
        raise
    except Exception as error:  # zipfile raises nearly anything on damaged archives
        raise ModelError(f"{path}: its metadata is damaged ({error!r}); convert the model again") from None


def read_standard_normalization(path: str | Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Read mean and std from a file's standard TFLite Metadata.

    Returns:
        Mean and std in pixel values (0 to 255), one entry or one per channel each; None if the file does not state
        them.
    """
    from edgeq.tflite import flatbuffer, schema  # imported here: only files from other tools need them

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
        return None  # no metadata, or damaged: the normalization may still be derived from the quantization
    return None


def parse_labels(text: str) -> tuple[str, ...]:
    """Parse one label per line. If all lines start with their index (``7  frog`` or ``7: frog``), it is dropped."""
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    heads = [line.split(maxsplit=1) for line in lines]
    if heads and all(len(h) == 2 and h[0].rstrip(":,") == str(i) for i, h in enumerate(heads)):
        return tuple(head[1].strip() for head in heads)
    return tuple(line.strip() for line in lines)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read labels from a text file, one per line, or from a folder of photos, one sub-folder per class.

    Returns:
        The labels; those from a folder are sorted.

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
