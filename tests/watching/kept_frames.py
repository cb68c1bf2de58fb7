"""Frames of different scenes, and a keeper, for the tests of keeping and collecting."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

import numpy as np
from conftest import ROOT
from PIL import Image

from edgeq.classification import Prediction
from edgeq.collecting.kept import KeptPhoto
from edgeq.watching import Keeper, Observed

START = 1_790_000_000.25


def scene(seed: int, quality: int = 90) -> bytes:
    """A picture of blobs, which like a photo of another scene differs in most gradients."""
    small = np.random.default_rng(seed).integers(0, 256, (6, 7, 3), np.uint8)
    out = io.BytesIO()
    Image.fromarray(small).resize((160, 120), Image.Resampling.BICUBIC).save(out, "JPEG", quality=quality)
    return out.getvalue()


def seen(number: int = 0, probability: float = 0.9, image: bytes | Path | None = None, **more: object) -> Observed:
    found = Observed(
        time=START + 60 * number,
        frame=number + 1,
        file=None,
        label="red",
        probability=probability,
        changed=False,
        predictions=(Prediction(2, "red", probability),),
        times_ms={},
        frames_per_second=1.0,
        dropped=0,
        damaged=0,
        interruptions=0,
        temperature_c=None,
        image=scene(number) if image is None else image,
    )
    return replace(found, **more)  # type: ignore[arg-type]


def keeper(folder: Path, **options: object) -> Keeper:
    return Keeper(folder, ROOT / "README.md", free_bytes=0, **options)  # type: ignore[arg-type]


def record(photo: Path) -> KeptPhoto:
    return KeptPhoto.from_bytes(photo.with_suffix(".json").read_bytes())
