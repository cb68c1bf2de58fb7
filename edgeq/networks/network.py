"""`Network`, the form in which all other packages use a float network; and functions for TensorFlow and Keras."""

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
        name: the network's name and the prefix of the names of its files, for example ``mobilenet_v2_1.0_160``.
        height: height of the input in pixels.
        width: width of the input in pixels.
        channels: number of input channels, 1 or 3.
        outputs: number of scores.
        function: function from a float32 tensor (1, height, width, channels) to scores, (1, outputs).
        keeps_alive: the object that owns the variables that `function` uses, usually a `keras.Model`.
        parent: provenance of the network: plain JSON data with the digest of its weights.
        labels: the classes' names, one per class, or empty.
        preprocessing: how images become the input; None if unknown.
        held_out: fingerprints of the photos that were held out of training, see `ModelMetadata`; calibration does not
            use them either.
        remarks: notes to the user on the choices that were made; each is a sentence.
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
        """Number of classes: 2 for a single score, which is that of the second class, as in `edgeq.Model`."""
        return 2 if self.outputs == 1 else self.outputs

    def preprocessing_with(self, overrides: Overrides, source: str | None) -> Preprocessing:
        """Return the preprocessing with the user's settings in place of the network's.

        Args:
            overrides: the user's settings.
            source: the network's name in error messages.

        Raises:
            InputError: neither the network nor the user states the normalization.
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
    """Import Keras with TensorFlow as its backend, whatever the environment and the user's keras.json say.

    Neither of them is changed.

    Raises:
        EdgeqError: TensorFlow is not installed, or this process has already imported Keras with another backend.
    """
    if importlib.util.find_spec("tensorflow") is None:
        raise EdgeqError("this needs TensorFlow, which is not installed: pip install 'edgeq[convert]'")
    wanted = os.environ.get("KERAS_BACKEND")
    os.environ["KERAS_BACKEND"] = "tensorflow"  # read only when Keras is imported
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
    """Call a function that makes Keras layers in a new Keras session, so that files made from them are reproducible.

    The names of layers depend on the layers made before in the same session. Keras keeps the session's state (layer
    counters, dtype policy, seeds, scopes) per thread, so the function is called in a new thread.
    `keras.backend.clear_session` would reset the caller's session.
    """
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(make).result()


def tool_versions() -> dict[str, str]:
    """Return the versions of the packages that determine the content of a converted file, for its provenance."""
    import keras
    import numpy as np
    import tensorflow as tf

    return {
        "edgeq": edgeq.__version__,
        "tensorflow": tf.__version__,
        "keras": keras.__version__,
        "numpy": np.__version__,
    }
