"""Copy a Keras network to PyTorch, which trains depthwise convolutions several times faster on a CPU."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

__all__ = ["TorchCopy"]

BATCH_NORM_MOMENTUM = 0.01  # averages over about 100 steps; Keras's 0.001 would average over several epochs


class TorchCopy(nn.Module):
    """Computes the same as a functional Keras network, for channels-last images of any size.

    Attributes:
        network: the Keras network.

    Args:
        network: a `keras.Model` with one input, (N, height, width, 3), built from the layers in `_MODULES`. The copy
            starts with its weights. Input sizes other than the network's must be multiples of its output stride.

    Raises:
        KeyError: a layer is of another class.
    """

    network: Any

    def __init__(self, network: Any) -> None:
        super().__init__()
        object.__setattr__(self, "network", network)  # not by PyTorch, which would look for parameters in it
        self.steps: list[tuple[str, list[str]]] = []
        self.layers = nn.ModuleDict()
        for layer in network.layers:
            if type(layer).__name__ != "InputLayer":
                inputs = layer.input if isinstance(layer.input, list) else [layer.input]
                self.steps.append((layer.name, [one._keras_history.operation.name for one in inputs]))
                self.layers[layer.name] = _MODULES[type(layer).__name__](layer)
        self.first, self.last = network.layers[0].name, network.layers[-1].name
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        self.read()

    def read(self) -> None:
        """Copy the weights from the Keras network."""
        for tensor, variable, axes in self._weights():
            tensor.data.copy_(torch.from_numpy(np.transpose(variable.numpy(), np.argsort(axes)).copy()))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """Compute the outputs of (N, height, width, 3) float32 images."""
        found = {self.first: images.permute(0, 3, 1, 2)}
        for name, inputs in self.steps:
            found[name] = self.layers[name](*(found[one] for one in inputs))
        return found[self.last]

    def write_back(self) -> Any:
        """Copy the weights to the Keras network; return it."""
        for tensor, variable, axes in self._weights():
            variable.assign(tensor.detach().numpy().transpose(axes))
        return self.network

    def _weights(self) -> list[tuple[torch.Tensor, Any, tuple[int, ...]]]:
        """Return each tensor with its Keras variable, and the tensor's axes in the order of the variable's."""
        found: list[tuple[torch.Tensor, Any, tuple[int, ...]]] = []
        for layer in self.network.layers:
            module = self.layers[layer.name] if layer.variables else None
            if isinstance(module, nn.BatchNorm2d):
                found += [(module.weight, layer.gamma, (0,)), (module.bias, layer.beta, (0,))]
                found += [
                    (module.running_mean, layer.moving_mean, (0,)),
                    (module.running_var, layer.moving_variance, (0,)),
                ]
            elif isinstance(module, _Convolution):
                found.append((module.weight, layer.kernel, (2, 3, 0, 1) if module.groups > 1 else (2, 3, 1, 0)))
            elif isinstance(module, nn.Linear):
                found += [(module.weight, layer.kernel, (1, 0)), (module.bias, layer.bias, (0,))]
        return found


class _Convolution(nn.Conv2d):
    """A convolution with TensorFlow's "same" padding, or without any."""

    def __init__(self, layer: Any, outputs: int, groups: int) -> None:
        if layer.use_bias:
            raise ValueError(f"{layer.name}: has a bias")
        super().__init__(layer.input.shape[-1], outputs, layer.kernel_size, layer.strides, groups=groups, bias=False)
        self.same = layer.padding == "same"

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        if not self.same:
            return super().forward(x)
        (above, below), (left, right) = (
            _same(side, kernel, stride)
            for side, kernel, stride in zip(x.shape[2:], self.kernel_size, self.stride, strict=True)
        )
        if above == below and left == right:
            return functional.conv2d(x, self.weight, None, self.stride, (above, left), groups=self.groups)
        return super().forward(functional.pad(x, (left, right, above, below)))


def _same(side: int, kernel: int, stride: int) -> tuple[int, int]:
    """Return TensorFlow's "same" padding at the two ends of an axis."""
    total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
    return total // 2, total - total // 2


class _Add(nn.Module):
    def forward(self, a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        return a + b


class _GlobalAverage(nn.Module):
    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.mean((2, 3))


def _padding(layer: Any) -> nn.Module:
    (above, below), (left, right) = layer.padding
    return nn.ZeroPad2d((left, right, above, below))


def _normalization(layer: Any) -> nn.Module:
    return nn.BatchNorm2d(layer.input.shape[-1], layer.epsilon, BATCH_NORM_MOMENTUM)


def _relu(layer: Any) -> nn.Module:
    return nn.ReLU(inplace=True) if layer.max_value is None else nn.Hardtanh(0.0, float(layer.max_value), inplace=True)


_MODULES: dict[str, Callable[[Any], nn.Module]] = {
    "Add": lambda layer: _Add(),
    "BatchNormalization": _normalization,
    "Conv2D": lambda layer: _Convolution(layer, layer.filters, 1),
    "Dense": lambda layer: nn.Linear(layer.input.shape[-1], layer.units),
    "DepthwiseConv2D": lambda layer: _Convolution(layer, layer.input.shape[-1], layer.input.shape[-1]),
    "GlobalAveragePooling2D": lambda layer: _GlobalAverage(),
    "ReLU": _relu,
    "ZeroPadding2D": _padding,
}
