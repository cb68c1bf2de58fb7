"""An image classifier in a .tflite file, with one interface for every runtime and tensor type."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq import images
from edgeq.errors import InputError, ModelError, UnknownNormalizationError
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing, apply_table, default_crop, normalization_of_range
from edgeq.runtime.tensor_model import TensorModel, TensorSpec
from edgeq.tflite.metadata import ModelMetadata, Overrides, read_standard_normalization
from edgeq.tflite.task import image_layout

__all__ = ["Model", "TensorSpec", "preprocessing_of"]


def preprocessing_of(
    path: str | Path,
    shape: Sequence[int],
    normalization: tuple[tuple[float, ...], tuple[float, ...]],
    stated: Preprocessing | None,
    overrides: Overrides,
) -> Preprocessing:
    """Return how images become the input of a model.

    Args:
        path: the model's file.
        shape: the input's shape, (1, height, width, channels) or (1, channels, height, width).
        normalization: mean and std.
        stated: the preprocessing in the file's metadata, or None.
        overrides: the user's settings, which replace those of the file.

    Raises:
        InputError: the settings are invalid, or do not fit the input.
    """
    _, *sides = shape
    height, width, channels = sides if image_layout(shape) == "NHWC" else (*sides[1:], sides[0])
    mean, std = normalization
    order = "L" if channels == 1 else stated.channels if stated else "RGB"
    crop = stated.crop if stated else default_crop(height, width)
    try:
        found = overrides.applied(Preprocessing(height, width, mean, std, order, crop))
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    if len(found.channels) != channels:
        raise InputError(f"{path}: takes {channels} channel(s), not {found.channels}")
    return found


class Model:
    """An image classifier in a .tflite file, loaded and ready to run.

    The file may come from any converter. Preprocessing and labels come from `Overrides`, else from the file's
    metadata. If neither states the preprocessing, it is derived from the input tensor.

    A model must not be used by two threads at the same time.

    Attributes:
        path: the .tflite file.
        runtime: name of the runtime that runs the model.
        input: the image tensor.
        output: the tensor of scores, one per class.
        layout: dimension order of the input tensor, ``NHWC`` or ``NCHW``.
        preprocessing: how images become input tensors.
        metadata: the metadata in the file.
        labels: the classes' names, one per class, or empty.
        classes: the number of classes (2 for a model with a single sigmoid output).
        gives_logits: whether the output holds logits rather than probabilities.
        input_table: the value in the input tensor of each pixel value: (256, 1) or (256, channels), of the input's
            type.

    Example:
        >>> model = Model("mobilenet_v2_1.0_224_int8.tflite")
        >>> probabilities = model.classify("parrot.jpg")
        >>> model.labels[probabilities.argmax()]
        'macaw'
    """

    def __init__(
        self,
        path: str | Path,
        *,
        runtime: str | None = None,
        threads: int = 1,
        kernels: str = "default",
        overrides: Overrides | None = None,
        metadata: ModelMetadata | None = None,
        trust: bool = False,
    ) -> None:
        """Load a model.

        Args:
            path: a .tflite file with one image input and one output of scores.
            runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest installed
                runtime.
            threads: number of threads that the interpreter may use.
            kernels: a name in ``edgeq.runtime.KERNELS``; ``reference`` gives bit-identical results on every machine.
            overrides: preprocessing and labels to use instead of the file's.
            metadata: the file's metadata, if the caller has read it already.
            trust: whether to load a file that was never opened on this machine without a trial in another process.

        Raises:
            ModelError: the file is damaged, is not a .tflite model or not an image classifier, or the runtime cannot
                load it.
            UnknownNormalizationError: the file does not state its normalization, and it cannot be derived.
            InputError: the labels or channels given do not fit the model, or the runtime or kernels are unknown.
            RuntimeUnavailableError: the requested runtime, or every runtime, is missing or unusable.
        """
        overrides = overrides or Overrides()
        self._network = TensorModel(
            path, runtime=runtime, threads=threads, kernels=kernels, metadata=metadata, trust=trust
        )
        self.path, self.metadata, self.runtime = self._network.path, self._network.metadata, self._network.runtime
        self.input = self._only_tensor("input", self._network.inputs)
        self.output = self._only_tensor("output", self._network.outputs)
        kind = self.metadata.output or self._read_output_kind()
        self.layout = self._find_layout()
        self.preprocessing = self._find_preprocessing(overrides)
        outputs = int(np.prod(self.output.shape))
        self.classes = 2 if outputs == 1 else outputs
        self.labels = self._find_labels(overrides)
        self.gives_logits = kind == "logits"
        self.input_table = self._input_table()

    def with_content(self, content: bytes, threads: int = 1) -> Model:
        """Make a copy of this model that runs another flatbuffer of the same graph.

        Args:
            content: a .tflite flatbuffer that differs from this model's file only in weights, scales and zero points,
                and not in those of the input.
            threads: number of threads that the interpreter may use.

        Raises:
            ModelError: the runtime cannot load the content.
        """
        changed = copy(self)
        changed._network = self._network.with_content(content, threads)
        (changed.output,) = changed._network.outputs
        return changed

    @property
    def sha256(self) -> str:
        """SHA-256 digest of the file, in hexadecimal."""
        return self._network.sha256

    def tensor(self, pixels: npt.NDArray[np.uint8]) -> npt.NDArray[Any]:
        """Turn an image's pixels into the input tensor.

        Args:
            pixels: (height, width, channels) uint8, as ``preprocessing.pixels`` returns them.

        Returns:
            The normalized and quantized image, of ``input.shape`` and of the input's type.

        Raises:
            ModelError: the pixels are not uint8 or do not have the input's size.
        """
        spec = self.preprocessing
        if pixels.shape != (spec.height, spec.width, len(spec.channels)) or pixels.dtype != np.uint8:
            raise ModelError(f"{self.path}: takes {spec.width}x{spec.height} uint8 {spec.channels} pixels")
        values = apply_table(self.input_table, pixels)
        if self.layout == "NCHW":
            values = values.transpose(2, 0, 1)
        return values.reshape(self.input.shape)

    def invoke(self, tensor: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Run the network.

        Args:
            tensor: the input, of ``input.shape`` and of the input's type.

        Returns:
            A copy of the output tensor, of ``output.shape`` and of the output's type, not dequantized.

        Raises:
            ModelError: the tensor has the wrong shape or type (which would crash native code), or the run failed.
        """
        return self._network.invoke((tensor,))[0]

    def dequantize(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Turn an output tensor into real numbers: logits if `gives_logits`, else probabilities.

        Returns:
            (outputs,) float64.
        """
        return self.output.quantization.dequantize(output).reshape(-1)

    def probabilities(self, output: npt.NDArray[Any]) -> npt.NDArray[np.float64]:
        """Turn an output tensor into probabilities of the classes.

        Logits are turned into probabilities by softmax. A single output is the probability (or logit) of the second
        of two classes. Probabilities that the network computes itself are not renormalized: those of an INT8 model
        are multiples of 1/256 and may not sum to 1.

        Returns:
            (classes,) float64 in [0, 1].
        """
        real = self.dequantize(output)
        if real.size == 1:
            # The sigmoid through tanh, because exp() of a large negative logit overflows.
            second = (1 + float(np.tanh(real[0] / 2))) / 2 if self.gives_logits else float(real[0])
            return np.array([1 - second, second])
        if self.gives_logits:
            exponentials = np.exp(real - real.max())
            return np.asarray(exponentials / exponentials.sum(), np.float64)
        return real

    measure = "l1"
    """Name of the measure of `error`, in a refinement's record."""

    def tensors(self, pixels: npt.NDArray[np.uint8]) -> tuple[npt.NDArray[Any]]:
        """Turn an image's pixels into the tuple of the network's only input tensor, see :meth:`tensor`."""
        return (self.tensor(pixels),)

    def run(self, tensors: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any]]:
        """Run the network on its only input tensor, see :meth:`invoke`; return the only output tensor."""
        return (self.invoke(tensors[0]),)

    def meaning(self, outputs: Sequence[npt.NDArray[Any]]) -> npt.NDArray[np.float64]:
        """Return the probabilities that the only output tensor holds, see :meth:`probabilities`."""
        return self.probabilities(outputs[0])

    def error(self, expected: Sequence[npt.NDArray[np.float64]], found: Sequence[npt.NDArray[np.float64]]) -> float:
        """Return the mean L1 distance of probabilities, in 0..2.

        Args:
            expected: the float model's, (classes,) for each image.
            found: this model's, of which the last classes count: a background class comes before them.
        """
        distances = [np.abs(q[len(q) - len(p) :] - p).sum() for p, q in zip(expected, found, strict=True)]
        return float(np.mean(distances))

    def classify(self, source: images.Source) -> npt.NDArray[np.float64]:
        """Classify one image.

        Args:
            source: a file's path, its bytes, an open binary file, a Pillow image, or an array (see
                ``edgeq.images.Source``).

        Returns:
            The classes' probabilities, (classes,) float64 in [0, 1].

        Raises:
            ImageError: the image cannot be decoded.
            ModelError: the run failed.
        """
        return self.probabilities(self.invoke(self.tensor(self.preprocessing.pixels(source))))

    def _only_tensor(self, what: str, specs: Sequence[TensorSpec]) -> TensorSpec:
        if len(specs) != 1:
            raise ModelError(f"{self.path}: has {len(specs)} {what}s; an image classifier has one")
        return specs[0]

    def _find_layout(self) -> str:
        layout = image_layout(self.input.shape)
        if layout is None:
            raise ModelError(
                f"{self.path}: its input has shape {self.input.shape}; an image classifier takes (1, height, width, "
                "channels) or (1, channels, height, width) with 1 or 3 channels"
            )
        return layout

    def _find_preprocessing(self, overrides: Overrides) -> Preprocessing:
        stated = self.metadata.preprocessing
        normalization = overrides.normalization or ((stated.mean, stated.std) if stated else self._derived())
        return preprocessing_of(self.path, self.input.shape, normalization, stated, overrides)

    def _derived(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and std for a file without edgeq's metadata.

        They come from the standard TFLite metadata, else from the range of the quantized input.
        """
        standard = read_standard_normalization(self.path)
        if standard is not None:
            return standard
        quantization = self.input.quantization
        name = None
        # The range of an int16 input is symmetric: it covers [-1, 1] even if the network takes [0, 1].
        if quantization.dtype in ("int8", "uint8"):
            name = normalization_of_range(*quantization.real_range)
        if name is None:
            low, high = quantization.real_range
            covers = f" (range {low:.4g} to {high:.4g})" if np.isfinite(low) else ""
            raise UnknownNormalizationError(
                f"{self.path}: does not say how its input is normalized, and its {quantization.dtype} input{covers} "
                "does not imply it; give --normalize -1..1, 0..1, 0..255, imagenet or MEAN/STD"
            )
        return NORMALIZATIONS[name]

    def _find_labels(self, overrides: Overrides) -> tuple[str, ...]:
        labels = overrides.labels if overrides.labels is not None else self.metadata.labels
        if labels and len(labels) != self.classes:
            if overrides.labels is not None:
                raise InputError(f"{self.path}: has {self.classes} classes, but {len(labels)} labels were given")
            return ()  # another tool's text file, which is not a list of labels
        return labels

    def _read_output_kind(self) -> str:
        from edgeq.tflite.output_kind import read_output_kind  # imported here: files with edgeq's metadata skip it

        return read_output_kind(self.path)

    def _input_table(self) -> npt.NDArray[Any]:
        normalized = self.preprocessing.normalized_values()
        quantization = self.input.quantization
        if len(quantization.scale) <= 1:
            return quantization.quantize(normalized)
        channels = np.broadcast_to(normalized, (256, len(self.preprocessing.channels)))
        return replace(quantization, axis=1).quantize(channels)
