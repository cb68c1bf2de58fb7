"""Fill a model's inputs with noise, to run it without data."""

from __future__ import annotations

from typing import Any

import numpy as np

__all__ = ["fill_inputs"]


def fill_inputs(interpreter: Any) -> None:
    """Set the inputs of an interpreter to noise. Zeros could make a model faster than it is on images.

    Raises:
        ValueError: an input takes no numbers.
    """
    rng = np.random.default_rng(0)
    for details in interpreter.get_input_details():
        dtype = np.dtype(details["dtype"])
        noise = rng.random(details["shape"])
        if dtype.kind in "iu":  # numbers without a scale may be indices, which must stay small
            limits = np.iinfo(dtype)
            quantized = bool(np.any(details["quantization_parameters"]["scales"]))
            low, high = (int(limits.min), int(limits.max)) if quantized else (0, 2)
            noise = low + noise * (high - low)
        interpreter.set_tensor(details["index"], noise.astype(dtype))
