"""A .tflite file as a function from named input tensors to named output tensors, for every runtime and tensor type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.errors import InputError, ModelError, one_line
from edgeq.quantization import Quantization
from edgeq.runtime.backends import make_interpreter, open_content
from edgeq.tflite.metadata import ModelMetadata, read_metadata

__all__ = ["TensorModel", "TensorSpec"]

Arrays = Mapping[str, npt.NDArray[Any]] | Sequence[npt.NDArray[Any]]


@dataclass(frozen=True)
class TensorSpec:
    """An input or output tensor of a model.

    Attributes:
        index: the tensor's index in the interpreter.
        shape: the tensor's shape, including the batch dimension, for example (1, 224, 224, 3).
        quantization: the tensor's type, scale and zero point.
        name: the name in the file's signature, else the tensor's own.
    """

    index: int
    shape: tuple[int, ...]
    quantization: Quantization
    name: str = ""

    @classmethod
    def from_details(cls, details: dict[str, Any], names: Mapping[int, str] | None = None) -> TensorSpec:
        """Read one entry of an interpreter's ``get_input_details()`` or ``get_output_details()``.

        Args:
            details: the entry.
            names: names of tensors in the file's signature, by index.
        """
        shape, index = tuple(int(n) for n in details["shape"]), int(details["index"])
        name = (names or {}).get(index, details.get("name", ""))
        return cls(index, shape, Quantization.from_details(details), name)


class TensorModel:
    """Any .tflite model with one or several inputs and outputs of any shape, loaded and ready to run.

    edgeq does not interpret the inputs and outputs: they are named arrays of real numbers. For an image classifier
    use `Model`.

    A model must not be used by two threads at the same time.

    Attributes:
        path: the .tflite file.
        runtime: name of the runtime that runs the model.
        metadata: the metadata in the file.
        inputs: the input tensors, in the file's order.
        outputs: the output tensors, in the file's order.

    Example:
        >>> model = TensorModel("autoencoder_int8.tflite")
        >>> answer = model.answer({"features": np.zeros((1, 640), np.float32)})
        >>> answer["reconstruction"].shape
        (1, 640)
    """

    def __init__(
        self,
        path: str | Path,
        *,
        runtime: str | None = None,
        threads: int = 1,
        kernels: str = "default",
        metadata: ModelMetadata | None = None,
        trust: bool = False,
    ) -> None:
        """Load a model.

        Args:
            path: a .tflite file.
            runtime: a name in ``edgeq.runtime.RUNTIMES``; None to use ``EDGEQ_RUNTIME``, else the fastest installed
                runtime.
            threads: number of threads that the interpreter may use.
            kernels: a name in ``edgeq.runtime.KERNELS``; ``reference`` gives bit-identical results on every machine.
            metadata: the file's metadata, if the caller has read it already.
            trust: whether to load a file that was never opened on this machine without a trial in another process.

        Raises:
            ModelError: the file is not a .tflite model, is damaged, or the runtime cannot load it.
            InputError: the runtime or kernels are unknown.
            RuntimeUnavailableError: the requested runtime, or every runtime, is missing or unusable.
        """
        self.path = Path(path)
        if metadata is None:
            metadata = read_metadata(path) if self.path.is_file() else ModelMetadata()
        self.metadata = metadata
        self.runtime, self._interpreter = make_interpreter(path, runtime, threads, kernels, trust)
        try:
            found = self._interpreter.get_input_details(), self._interpreter.get_output_details()
            names = _signature_names(self._interpreter, found)
        except UnicodeDecodeError:
            raise ModelError(f"{self.path}: a tensor's name is not UTF-8") from None
        self.inputs, self.outputs = (_specs(details, stated) for details, stated in zip(found, names, strict=True))

    def with_content(self, content: bytes, threads: int = 1) -> TensorModel:
        """Make a copy of this model that runs another flatbuffer of the same graph.

        Args:
            content: a .tflite flatbuffer that differs from this model's file only in weights, scales and zero points.
            threads: number of threads that the interpreter may use.

        Raises:
            ModelError: the runtime cannot load the content.
        """
        changed = copy(self)
        changed._interpreter = open_content(content, str(self.path), self.runtime, threads)
        found = changed._interpreter.get_input_details(), changed._interpreter.get_output_details()
        for side, specs, details in (("inputs", self.inputs, found[0]), ("outputs", self.outputs, found[1])):
            read = (TensorSpec.from_details(entry) for entry in details)
            renamed = tuple(replace(new, name=old.name) for new, old in zip(read, specs, strict=True))
            setattr(changed, side, renamed)
        return changed

    @cached_property
    def sha256(self) -> str:
        """SHA-256 digest of the file, in hexadecimal."""
        from edgeq.files import sha256_of_file  # imported here: not needed to run a model

        return sha256_of_file(self.path)

    def renamed(self, inputs: Sequence[str], outputs: Sequence[str]) -> TensorModel:
        """Make a copy of this model whose inputs and outputs have other names, in the order of the file."""
        changed = copy(self)
        for side, specs, names in (("inputs", self.inputs, inputs), ("outputs", self.outputs, outputs)):
            setattr(changed, side, tuple(replace(s, name=n) for s, n in zip(specs, names, strict=True)))
        return changed

    def tensors(self, arrays: Arrays) -> tuple[npt.NDArray[Any], ...]:
        """Turn real numbers into the input tensors.

        Args:
            arrays: one array of real numbers per input, by name or in the order of `inputs`. Each has the input's
                shape, or that without the leading 1. Values beyond the range of a quantized input saturate.

        Returns:
            One array per input, of the input's shape and type, in the order of `inputs`.

        Raises:
            InputError: an array is missing, or has another shape.
        """
        if isinstance(arrays, Mapping):
            names = [spec.name for spec in self.inputs]
            if set(arrays) != set(names):
                raise InputError(f"{self.path}: has the inputs {', '.join(names)}, not {', '.join(arrays) or 'none'}")
            arrays = [arrays[name] for name in names]
        if len(arrays) != len(self.inputs):
            raise InputError(f"{self.path}: has {len(self.inputs)} inputs, but {len(arrays)} arrays were given")
        return tuple(self._tensor(spec, array) for spec, array in zip(self.inputs, arrays, strict=True))

    def _tensor(self, spec: TensorSpec, array: npt.NDArray[Any]) -> npt.NDArray[Any]:
        shape = np.shape(array)
        if shape not in (spec.shape, spec.shape[1:]):
            raise InputError(f"{self.path}: its input {spec.name} has shape {spec.shape}, not {shape}")
        if not spec.quantization.is_quantized and np.dtype(spec.quantization.dtype).kind == "b":
            return np.asarray(array, bool).reshape(spec.shape)
        return spec.quantization.quantize(array).reshape(spec.shape)

    def invoke(self, tensors: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], ...]:
        """Run the network.

        Args:
            tensors: one array per input, of the input's shape and type, in the order of `inputs`.

        Returns:
            A copy of each output tensor, of the output's shape and type, not dequantized, in the order of `outputs`.

        Raises:
            ModelError: a tensor has the wrong shape or type (which would crash native code), or the run failed.
        """
        for spec, tensor in zip(self.inputs, tensors, strict=True):
            if tensor.shape != spec.shape or tensor.dtype != spec.quantization.dtype:
                raise ModelError(
                    f"{self.path}: takes {spec.quantization.dtype} of shape {spec.shape}, "
                    f"not {tensor.dtype} of shape {tensor.shape}"
                )
        try:
            for spec, tensor in zip(self.inputs, tensors, strict=True):
                self._interpreter.set_tensor(spec.index, tensor)
            self._interpreter.invoke()
            return tuple(self._interpreter.get_tensor(spec.index) for spec in self.outputs)
        except (RuntimeError, ValueError) as error:
            raise ModelError(f"{self.path}: running the model failed ({one_line(error)})") from None

    def dequantize(self, outputs: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float64]]:
        """Turn output tensors, in the order of `outputs`, into real numbers: float64 of the same shapes, by name."""
        pairs = zip(self.outputs, outputs, strict=True)
        return {spec.name: spec.quantization.dequantize(output) for spec, output in pairs}

    def answer(self, arrays: Arrays) -> dict[str, npt.NDArray[np.float64]]:
        """Run the model on real numbers.

        Args:
            arrays: one array per input, see :meth:`tensors`.

        Returns:
            The outputs as real numbers: float64 of each output's shape, by name, in the order of `outputs`.

        Raises:
            InputError: an array is missing, or has another shape.
            ModelError: the run failed.
        """
        return self.dequantize(self.invoke(self.tensors(arrays)))

    def run(self, tensors: Sequence[npt.NDArray[Any]]) -> tuple[npt.NDArray[Any], ...]:
        """Run the network, see :meth:`invoke`."""
        return self.invoke(tensors)

    def meaning(self, outputs: Sequence[npt.NDArray[Any]]) -> dict[str, npt.NDArray[np.float64]]:
        """Return the real numbers that output tensors hold, see :meth:`dequantize`."""
        return self.dequantize(outputs)

    measure = "error"
    """Name of the measure of `error`, in a refinement's record."""

    def error(
        self, expected: Sequence[Mapping[str, npt.NDArray[Any]]], found: Sequence[Mapping[str, npt.NDArray[Any]]]
    ) -> float:
        """Return how far outputs are from those of the float model, as a fraction of the latter; 0 if they are equal.

        For each output, this is the norm of the difference over all samples divided by the norm of the float model's
        values. The result is the mean over the outputs.

        Args:
            expected: the float model's outputs by name, for each sample.
            found: this model's outputs, likewise.
        """
        errors = []
        for name in expected[0]:
            signal = sum(float(np.sum(np.square(e[name]))) for e in expected)
            noise = sum(float(np.sum(np.square(e[name] - f[name]))) for e, f in zip(expected, found, strict=True))
            errors.append(np.sqrt(noise / signal) if signal else float(noise > 0))
        return float(np.mean(errors))


def _specs(details: Sequence[dict[str, Any]], names: Mapping[int, str]) -> tuple[TensorSpec, ...]:
    """Read inputs or outputs; a number makes up for a missing name or for one that occurred before."""
    specs: list[TensorSpec] = []
    for number, entry in enumerate(details):
        spec = TensorSpec.from_details(entry, names)
        if not spec.name or any(spec.name == other.name for other in specs):
            spec = replace(spec, name=f"{spec.name or 'tensor'}_{number}")
        specs.append(spec)
    return tuple(specs)


def _signature_names(
    interpreter: Any, found: Sequence[Sequence[dict[str, Any]]]
) -> tuple[dict[int, str], dict[int, str]]:
    """Return the names of inputs and outputs in the file's signature, by the tensor's index; empty if there is none."""
    read = getattr(interpreter, "_get_full_signature_list", None)
    signatures = list(read().values()) if read else []
    names = []
    for side, details in zip(("inputs", "outputs"), found, strict=True):
        stated = {int(i): name for name, i in signatures[0][side].items()} if len(signatures) == 1 else {}
        names.append(stated if stated.keys() == {int(entry["index"]) for entry in details} else {})
    return names[0], names[1]
