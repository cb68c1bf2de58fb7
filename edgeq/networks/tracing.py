"""Trace a Keras model: record each run of a layer with its inputs and outputs.

Importing this module does not import TensorFlow; tracing a model does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from edgeq.errors import ModelError, one_line

__all__ = ["Call", "Leaf", "leaves_of", "trace"]

# Layers whose variables are not kernels, whatever their number of dimensions: they are looked up or used elementwise.
_ELEMENTWISE = (
    "Embedding",
    "GroupNormalization",
    "LayerNormalization",
    "Normalization",
    "PReLU",
    "RMSNormalization",
)


@dataclass(frozen=True)
class Leaf:
    """A layer that computes something itself, not only through the layers inside it.

    Attributes:
        layer: the Keras layer.
        parent: name of the model or layer that contains it; empty for the model itself.
        learned: the layer's trainable variables, even if the layer is frozen now.
        kept: the layer's other variables, such as the moving averages of batch normalization.
    """

    layer: Any
    parent: str
    learned: list[Any]
    kept: list[Any]

    @property
    def kernels(self) -> list[Any]:
        """The layer's variables that take part in a convolution or matrix product."""
        if type(self.layer).__name__ in _ELEMENTWISE:
            return []
        return [variable for variable in self.learned + self.kept if len(variable.shape) > 1]


@dataclass(frozen=True)
class Call:
    """One run of a layer.

    Attributes:
        leaf: the layer.
        inputs: the inputs, symbolic tensors with batch size 1.
        outputs: the outputs, symbolic tensors with batch size 1.
    """

    leaf: Leaf
    inputs: list[Any]
    outputs: list[Any]


def leaves_of(model: Any) -> list[Leaf]:
    """List the layers of a `keras.Model` that compute something, at any depth, without duplicates.

    A wrapper or a recurrent layer is one leaf together with all layers inside it, because it does not show how often it
    runs them.
    """
    return list(_leaves_of(model, "", set()))


def trace(model: Any, shape: tuple[int, ...], leaves: list[Leaf]) -> list[Call]:
    """Run a `keras.Model` on one symbolic image, and record the calls of its layers.

    Args:
        model: a model with one input.
        shape: shape of the image, without the batch dimension.
        leaves: the model's layers whose calls to record.

    Returns:
        The calls, in the order in which they ended.

    Raises:
        ModelError: the model cannot run on such an image.
    """
    import tensorflow as tf

    calls: list[Call] = []
    dtype = model.inputs[0].dtype if getattr(model, "inputs", None) else "float32"
    run = tf.function(lambda image: model(image, training=False), autograph=False)
    with contextlib.ExitStack() as noting:
        for leaf in leaves:
            noting.enter_context(_noting_calls(leaf, calls))
        try:
            run.get_concrete_function(tf.TensorSpec((1, *shape), dtype))
        except Exception as error:  # layers raise exceptions of many types for shapes that they do not support
            raise ModelError(f"{model.name}: cannot run on an input of {shape} ({one_line(error)})") from None
    return calls


def _leaves_of(layer: Any, parent: str, seen: set[int]) -> Iterator[Leaf]:
    from keras import layers

    if id(layer) in seen or isinstance(layer, layers.InputLayer):
        return
    seen.add(id(layer))
    inner = layer._flatten_layers(include_self=False, recursive=False)
    whole = isinstance(layer, layers.Wrapper | layers.RNN)
    # The variables of a frozen layer report that they are not trainable. Only these private lists tell which of them
    # were created as trainable.
    owners = layer._flatten_layers() if whole else [layer]
    learned = [variable for owner in owners for variable in owner._trainable_variables]
    kept = [variable for owner in owners for variable in owner._non_trainable_variables]
    if whole or not inner or learned or kept:
        yield Leaf(layer, parent, learned, kept)
    for part in () if whole else inner:
        yield from _leaves_of(part, layer.name, seen)


@contextlib.contextmanager
def _noting_calls(leaf: Leaf, calls: list[Call]) -> Iterator[None]:
    from keras import tree

    original = leaf.layer.call

    def tensors(structure: Any) -> list[Any]:
        return [part for part in tree.flatten(structure) if hasattr(part, "shape") and hasattr(part, "dtype")]

    def call(*args: Any, **kwargs: Any) -> Any:
        outputs = original(*args, **kwargs)
        calls.append(Call(leaf, tensors((args, kwargs)), tensors(outputs)))
        return outputs

    attributes = vars(leaf.layer)  # if set as an attribute, Keras would track it as a part of the layer
    attributes["call"] = call
    try:
        yield
    finally:
        del attributes["call"]
