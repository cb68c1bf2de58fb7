"""Write a network as a .keras file that contains its labels, preprocessing and provenance."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any

from edgeq.files import member_info, replacing
from edgeq.tflite.metadata import ModelMetadata

__all__ = ["save_network"]

_KERAS_DATE = "1980-01-01@00:00:00"


def save_network(model: Any, path: Path, metadata: ModelMetadata) -> None:
    """Write a Keras model and its metadata.

    A .keras file is a zip archive. The metadata are two more members of it, the same as in a .tflite file, which Keras
    ignores. Times and memory addresses are removed, so that the same network gives bit-identical files.

    Args:
        model: the `keras.Model`.
        path: the file to write.
        metadata: labels, preprocessing and provenance.

    Raises:
        InputError: the file cannot be written.
    """
    with replacing([path]) as (part,):
        plain = part.with_suffix(".plain.keras")
        model.save(plain)
        with zipfile.ZipFile(plain) as source, zipfile.ZipFile(part, "w", zipfile.ZIP_STORED) as target:
            members = {name: source.read(name) for name in source.namelist()}
            facts = json.loads(members["metadata.json"]) | {"date_saved": _KERAS_DATE}
            members["metadata.json"] = json.dumps(facts).encode()
            members["config.json"] = json.dumps(_numbered(json.loads(members["config.json"]), {})).encode()
            for name, content in (members | metadata.to_members()).items():
                target.writestr(member_info(name), content)


def _numbered(config: Any, numbers: dict[int, int]) -> Any:
    """Replace the memory addresses that identify shared objects in a Keras configuration by consecutive numbers."""
    if isinstance(config, dict):
        return {
            key: numbers.setdefault(value, len(numbers)) if key == "shared_object_id" else _numbered(value, numbers)
            for key, value in config.items()
        }
    return [_numbered(value, numbers) for value in config] if isinstance(config, list) else config
