"""Affine quantization: ``real = scale * (q - zero_point)``.

The definition, the integer ranges and the rounding are those of the TensorFlow Lite 8-bit quantization
specification and of its reference kernels (``reference/quantize.h``): the division is done in float32, the
quotient is rounded half away from zero, and the result saturates at the ends of the integer type.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["Quantization"]


@dataclass(frozen=True)
class Quantization:
    """The type and the quantization parameters of a tensor.

    Attributes:
        dtype: NumPy name of the tensor's type: ``int8``, ``uint8``, ``int16``, ``float16``, ``float32``...
        scale: real units per integer step: one entry if per-tensor, one per index of `axis` if per-channel, empty if
            the tensor is not quantized.
        zero_point: the integers that represent 0.0; as many entries as `scale`.
        axis: the channel dimension, if `scale` has several entries.
    """

    dtype: str
    scale: tuple[float, ...] = ()
    zero_point: tuple[int, ...] = ()
    axis: int = 0

    @classmethod
    def from_details(cls, details: dict[str, Any]) -> Quantization:
        """Read the quantization from one entry of ``get_input_details()`` or ``get_output_details()``."""
        parameters = details["quantization_parameters"]
        scales, zero_points, axis = (parameters[key] for key in ("scales", "zero_points", "quantized_dimension"))
        return cls.from_file(np.dtype(details["dtype"]).name, scales, zero_points, axis)

    @classmethod
    def from_file(cls, dtype: str, scales: Iterable[float], zero_points: Iterable[int], axis: int) -> Quantization:
        """Make a quantization from the parameters in a file.

        Some converters write scale 0 for "not quantized". Types other than integers have no scale: runtimes ignore it.
        """
        scale = tuple(float(s) for s in scales)
        if not any(scale) or np.dtype(dtype).kind not in "iu":
            return cls(dtype)
        zero_point = tuple(int(z) for z in zero_points) or (0,) * len(scale)
        return cls(dtype, scale, zero_point[: len(scale)], int(axis))

    @property
    def is_quantized(self) -> bool:
        """Whether the tensor has a scale."""
        return bool(self.scale)

    @property
    def integer_range(self) -> tuple[int, int]:
        """Smallest and largest value of the integer type.

        Raises:
            ValueError: the type is a floating-point type.
        """
        limits = np.iinfo(self.dtype)
        return int(limits.min), int(limits.max)

    @property
    def real_range(self) -> tuple[float, float]:
        """Smallest and largest real number that the tensor can hold, over all channels."""
        if not self.is_quantized:
            return (-np.inf, np.inf) if np.dtype(self.dtype).kind == "f" else self.integer_range
        low, high = self.integer_range
        pairs = list(zip(self.scale, self.zero_point, strict=True))
        return min(s * (low - z) for s, z in pairs), max(s * (high - z) for s, z in pairs)

    def quantize(self, real: npt.ArrayLike) -> npt.NDArray[Any]:
        """Turn real numbers into the tensor's type, bit-identical to the reference QUANTIZE kernel.

        Without a scale, floating-point types are cast. Integer types are rounded half away from zero, as with scale 1.

        Args:
            real: real numbers of any shape; with a per-channel quantization, dimension `axis` is the channels.

        Returns:
            Array of the same shape and of `dtype`; integer types saturate.
        """
        values = np.asarray(real, np.float32)
        if np.dtype(self.dtype).kind == "f":
            return values.astype(self.dtype)
        scale, zero_point = self._aligned(values.ndim)
        quotient = (values / scale.astype(np.float32)).astype(np.float64)
        # Round half away from zero. In float64, adding 0.5 to a float32 is exact, so 0.49999997 + 0.5 stays below 1.
        rounded: npt.NDArray[np.float64] = np.trunc(quotient + np.copysign(0.5, quotient))
        low, high = self.integer_range
        result: npt.NDArray[Any] = np.clip(rounded + zero_point, low, high).astype(self.dtype)
        return result

    def dequantize(self, values: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Turn a tensor's values into real numbers.

        Args:
            values: the tensor's values, of any shape and of `dtype`.

        Returns:
            float64 array of the same shape.
        """
        # Subtract in float64: in the tensor's own 8-bit type, ``q - zero_point`` would wrap around.
        wide = values.astype(np.float64)
        if not self.is_quantized:
            return wide
        scale, zero_point = self._aligned(values.ndim)
        real: npt.NDArray[np.float64] = (wide - zero_point) * scale
        return real

    def _aligned(self, ndim: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.int64]]:
        """Return scale and zero point, shaped to broadcast against an array of `ndim` dimensions."""
        scale = np.asarray(self.scale or (1.0,), np.float64)
        zero_point = np.asarray(self.zero_point or (0,), np.int64)
        if scale.size == 1:
            return scale.reshape(()), zero_point.reshape(())
        shape = [1] * ndim
        shape[self.axis] = scale.size
        return scale.reshape(shape), zero_point.reshape(shape)
