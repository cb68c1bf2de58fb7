"""Read CIFAR-10 from train.npz and test.npz, in which all pictures' JPEG files are concatenated in one array."""

from __future__ import annotations

import io
import os
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image

__all__ = ["CLASSES", "Split", "load"]

ROOT = Path(__file__).resolve().parents[1]
SIDE = 32  # pixels
CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")


@dataclass(frozen=True)
class Split:
    """The training or test set, or a part of it.

    Attributes:
        jpeg: the pictures' JPEG files.
        labels: the pictures' class indices, (N,) int64.
        classes: the names of the ten classes.
    """

    jpeg: tuple[bytes, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]

    @property
    def pixels(self) -> npt.NDArray[np.uint8]:
        """All pictures, decoded: (N, 32, 32, 3) uint8 RGB."""
        return np.stack([np.asarray(Image.open(io.BytesIO(content)).convert("RGB")) for content in self.jpeg])

    def __getitem__(self, index: Any) -> Split:
        places = np.arange(len(self.jpeg))[index]
        return Split(tuple(self.jpeg[i] for i in places), self.labels[places], self.classes)

    def write(self, folder: Path) -> Path:
        """Write the pictures' files to a folder, one sub-folder per class; return the folder."""
        for place, (content, label) in enumerate(zip(self.jpeg, self.labels, strict=True)):
            path = folder / self.classes[label] / f"{place:05}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content)
        return folder


def load(name: str, folder: Path | None = None) -> Split:
    """Read a set.

    Args:
        name: ``train`` or ``test``.
        folder: folder of the .npz files; None for ``$EDGEQ_SHARED/data/cifar10``, or ``../shared/data/cifar10`` if
            EDGEQ_SHARED is not set.
    """
    folder = folder or Path(os.environ.get("EDGEQ_SHARED", ROOT.parent / "shared")) / "data/cifar10"
    with np.load(folder / f"{name}.npz") as data:
        jpeg, offsets, labels, classes = (data[key] for key in ("jpeg", "offsets", "labels", "classes"))
    content = jpeg.tobytes()
    return Split(tuple(content[a:b] for a, b in pairwise(offsets)), labels.astype(np.int64), tuple(map(str, classes)))
