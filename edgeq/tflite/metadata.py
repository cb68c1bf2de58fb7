"""What travels inside a .tflite file, so that whoever uses the model needs nothing else.

A .tflite may carry a zip archive behind its flatbuffer (TFLite Metadata calls the members "associated
files"); interpreters ignore it, and the standard library reads it. edgeq keeps two members there:
``labels.txt``, one label a line, as every tool expects it, and ``edgeq.json``, everything else. Of files
made elsewhere, the standard metadata's label file and normalization are read.
"""

from __future__ import annotations

import json
import os
import struct
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeq.errors import InputError, ModelError
from edgeq.preprocessing import Preprocessing

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
_LONGEST_END = 22 + 65535  # bytes: a zip's last record with the longest comment
_REFINEMENT_ROOM = 400  # characters
FINGERPRINT_LENGTH = 16
"""Hexadecimal digits of an image file's SHA-256 that tell whether a model was calibrated on it."""


@dataclass(frozen=True)
class ModelMetadata:
    """What a model says about itself.

    Attributes:
        labels: one a class, in the order of the outputs; empty where unknown.
        preprocessing: how images become inputs; None where the file does not say.
        output: ``probabilities`` or ``logits``; None where unknown.
        provenance: where the file comes from: network, format, digests of parent and calibration set, tool
            versions; plain JSON data.
        held_out: fingerprints of the photos that a network was not trained on, for whoever calibrates it.
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
        text = json.dumps(document, indent=1, sort_keys=True)
        if "refinement" in self.provenance:  # room for what it may become, so that refining leaves a file its length
            unrefined = document | {"provenance": self.provenance | {"refinement": None}}
            taken = len(text) - len(json.dumps(unrefined, indent=1, sort_keys=True))
            text += " " * (_REFINEMENT_ROOM - taken)
        members = {METADATA_MEMBER: text.encode()}
        if self.labels:
            members[LABELS_MEMBER] = "".join(f"{label}\n" for label in self.labels).encode()
        return members


@dataclass(frozen=True)
class Overrides:
    """What a user knows better than the file; None leaves a thing as the file has it.

    Attributes:
        normalization: mean and std, see :func:`edgeq.preprocessing.parse_normalization`.
        channels: ``RGB``, ``BGR`` or ``L``.
        crop: share of the picture that the centre crop keeps.
        labels: one a class.
    """

    normalization: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    channels: str | None = None
    crop: float | None = None
    labels: tuple[str, ...] | None = None

    def applied(self, preprocessing: Preprocessing) -> Preprocessing:
        """A preprocessing with what the user knows put in its place."""
        mean, std = self.normalization or (preprocessing.mean, preprocessing.std)
        channels = self.channels or preprocessing.channels
        crop = preprocessing.crop if self.crop is None else self.crop
        return replace(preprocessing, mean=mean, std=std, channels=channels, crop=crop)


def read_metadata(path: str | Path) -> ModelMetadata:
    """Read what a .tflite file says about itself; of a file that says nothing, an empty `ModelMetadata`.

    Labels are also found in files of other tools, which keep them in a zip member of any name ending in .txt.

    Raises:
        ModelError: the file carries metadata of edgeq's that cannot be read.
    """
    if not _may_end_in_zip(path):
        return ModelMetadata()
    import zipfile  # 6 % of the start on a Raspberry Pi, which files without members need not wait for

    if not zipfile.is_zipfile(path):
        return ModelMetadata()
    try:
        with zipfile.ZipFile(path) as archive:
            names = archive.namelist()
            ours = METADATA_MEMBER in names
            text_members = [LABELS_MEMBER] if LABELS_MEMBER in names else [n for n in names if n.endswith(".txt")]
            labels: tuple[str, ...] = ()
            if text_members:
                text = archive.read(text_members[0]).decode("utf-8-sig", "strict" if ours else "replace")
                labels = parse_labels(text)
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


def _may_end_in_zip(path: str | Path) -> bool:
    """Whether there is the mark of a zip's end where it would have to be (APPNOTE.TXT, 4.3.16)."""
    try:
        with Path(path).open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - _LONGEST_END))
            return b"PK\5\6" in file.read()
    except OSError:
        return False


def read_standard_normalization(path: str | Path) -> tuple[tuple[float, ...], tuple[float, ...]] | None:
    """Mean and std, in pixel values, as a file's standard TFLite Metadata states them, or None."""
    from edgeq.tflite import flatbuffer, schema  # only for files of other tools

    content = Path(path).read_bytes()
    try:
        model = flatbuffer.root(content)
        for entry in model.tables(schema.MODEL_METADATA):
            if entry.raw(schema.METADATA_NAME) != b"TFLITE_METADATA":
                continue
            buffer = model.tables(schema.MODEL_BUFFERS)[entry.scalar(schema.METADATA_BUFFER, "<I")]
            metadata = flatbuffer.root(buffer.raw(schema.BUFFER_DATA))
            image = metadata.tables(schema.MODEL_METADATA_SUBGRAPHS)[0].tables(schema.SUBGRAPH_METADATA_INPUTS)[0]
            for unit in image.tables(schema.TENSOR_METADATA_PROCESS_UNITS):
                options = unit.table(schema.PROCESS_UNIT_OPTIONS)
                if options and unit.scalar(schema.PROCESS_UNIT_TYPE, "<b") == schema.PROCESS_UNIT_IS_NORMALIZATION:
                    return options.floats(schema.NORMALIZATION_MEAN), options.floats(schema.NORMALIZATION_STD)
    except (struct.error, IndexError):
        return None  # no metadata, or none that can be read: the quantization may still tell
    return None


def parse_labels(text: str) -> tuple[str, ...]:
    """One label a line; a leading index (``7  frog`` or ``7: frog``, counted from 0 in order) is dropped."""
    lines = text.splitlines()
    while lines and not lines[-1].strip():
        lines.pop()
    heads = [line.split(maxsplit=1) for line in lines]
    if heads and all(len(h) == 2 and h[0].rstrip(":,") == str(i) for i, h in enumerate(heads)):
        return tuple(head[1].strip() for head in heads)
    return tuple(line.strip() for line in lines)


def read_labels(path: str | Path) -> tuple[str, ...]:
    """Read labels from a text file, or from a folder of photos: its sub-folders' names, sorted.

    Raises:
        InputError: nothing can be read there.
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
        raise InputError(f"{path}: labels must be UTF-8 text, one a line") from None
    if not labels:
        raise InputError(f"{path}: holds no labels")
    return labels
