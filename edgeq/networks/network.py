"""The interface of a float network to the rest of edgeq."""

from __future__ import annotations

import importlib.util
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

import edgeq
from edgeq.errors import EdgeqError, InputError
from edgeq.preprocessing import Preprocessing, default_crop
from edgeq.tflite.metadata import Overrides

__all__ = ["Network", "in_new_session", "require_tensorflow", "tool_versions"]

_Made = TypeVar("_Made")


@dataclass(frozen=True)
class Network:
    """A float image classifier that can be converted.

    Attributes:
        name: first part of the names of its files, for instance ``mobilenet_v2_1.0_160``.
        height: of the input, in pixels.
        width: of the input, in pixels.
        channels: of the input, 1 or 3.
        outputs: how many scores it gives.
        function: maps a float32 tensor (1, height, width, channels) to (1, outputs).
        keeps_alive: what holds the variables that `function` uses.
        parent: where it comes from: plain JSON data with the digest of its weights.
        labels: one per class, or empty.
        preprocessing: how images become its input; None where that is not known.
        held_out: fingerprints of photos that it was not trained on, see `ModelMetadata`; calibration spares them.
        remarks: sentences for the user on what was chosen.
    """

    name: str
    height: int
    width: int
    channels: int
    outputs: int
    function: Callable[[Any], Any]
    keeps_alive: Any
    parent: dict[str, Any] = field(default_factory=dict)
    labels: tuple[str, ...] = ()
    preprocessing: Preprocessing | None = None
    held_out: frozenset[str] = frozenset()
    remarks: tuple[str, ...] = ()

    @property
    def classes(self) -> int:
        """Number of classes; a single score is that of the second of two classes, as in `edgeq.Model`."""
        return 2 if self.outputs == 1 else self.outputs

    def preprocessing_with(self, overrides: Overrides, source: str | None) -> Preprocessing:
        """How images become its input: as the user says, or else as it was made.

        Args:
            overrides: what the user says.
            source: what the error calls the network.

        Raises:
            InputError: neither tells the normalization.
        """
        preprocessing = self.preprocessing
        if preprocessing is None:
            if overrides.normalization is None:
                raise InputError(
                    f"{source}: does not say how its input is normalized; give what it was trained with: --normalize "
                    "-1..1, 0..1, 0..255, imagenet or MEAN/STD"
                )
            channels = "L" if self.channels == 1 else "RGB"
            crop = default_crop(self.height, self.width)
            preprocessing = Preprocessing(self.height, self.width, channels=channels, crop=crop)
        if self.channels == 1:
            overrides = replace(overrides, channels=None)
        return overrides.applied(preprocessing)


def require_tensorflow() -> None:
    """Import Keras with TensorFlow, whatever the environment or a user's keras.json says; both stay as they are.

    Raises:
        EdgeqError: TensorFlow is not installed, or Keras runs on something else in this process already.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise EdgeqError("this needs TensorFlow, which is not installed: pip install 'edgeq[convert]'")
    wanted = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # read once, as Keras is imported
    try:
        import keras
    finally:
        if wanted is None:
            del os.environ["KERAS_BACKEND"]
        else:
            os.environ["KERAS_BACKEND"] = wanted
    if keras.backend.backend() != "tensorflow":
        raise EdgeqError(
            f"this needs Keras on TensorFlow, but this process imported it on {keras.backend.backend()}; set "
            "KERAS_BACKEND=tensorflow before that"
        )


def in_new_session(make: Callable[[], _Made]) -> _Made:
    """Call a function that makes Keras layers, as if nothing had been built before: names, hence bytes, depend on that.

    Keras keeps such state (numbers of layers, dtype policy, seeds, scopes) by thread. So a new thread needs no
    `keras.backend.clear_session`, which would reset the caller's.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def tool_versions() -> dict[str, str]:
    """Versions of the packages that decide what is in a file that edgeq makes, for its provenance."""
    import keras
    import numpy as np
    import tensorflow as tf

    return {
        "edgeq": edgeq.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
