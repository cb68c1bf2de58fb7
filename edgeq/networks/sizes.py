"""Summarize a float network: its blocks, their parameters and multiply-adds.

A multiply-add is one product of a weight with an activation, added to a sum. Counted are the multiply-adds of
convolutions (including grouped, depthwise, separable and transposed ones) and of dense layers. Products with padding
count, because a kernel may compute them.

Not counted are pooling, activation functions, additions, biases, products of two activations, and batch normalization,
which conversion folds into the convolution before it. A layer with a kernel that has no counting rule is listed in
`NetworkSummary.not_counted`.
"""

from __future__ import annotations

import math
import re
from collections import Counter
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from edgeq.errors import InputError, ModelError
from edgeq.networks.architecture import Architecture
from edgeq.networks.building import build_keras_model
from edgeq.networks.layer_rules import multiply_adds, step_of
from edgeq.networks.network import Network, in_new_session
from edgeq.networks.opening import open_network
from edgeq.networks.tracing import Call, Leaf, leaves_of, trace
from edgeq.quiet import quiet

__all__ = ["Block", "NetworkSummary", "summarize", "summarize_model"]

# Prefix of the names of a block's layers in Keras's networks: block_1_ in MobileNetV2, expanded_conv_1_ in MobileNetV3,
# block1a_ in EfficientNet, conv2_block1_ in ResNet.
_BLOCK = re.compile(r"(expanded_conv(?:_\d+)?|(?:conv\d+_)?block_?\d+[a-z]?)_")
_HEAD = "head"


@dataclass(frozen=True)
class Block:
    """A block of a network: layers that belong together.

    Attributes:
        name: the common prefix of the layers' names, or the name of the layer that has the weights.
        kind: the operations in order, for example ``1x1, dw 3x3/2, SE, 1x1``: a 1x1 convolution, a 3x3 depthwise
            convolution with stride 2, squeeze-and-excitation, and another 1x1 convolution.
        output_shape: shape of the output for one image, usually (height, width, channels). None for a side that is
            known only when the network runs; empty if the network does not run the layers.
        parameters: number of stored values.
        trainable_parameters: number of trainable values, that is, without the moving averages of batch normalization
            and other statistics. The values of frozen layers count as trainable.
        multiply_adds: number of multiply-adds for one image.
    """

    name: str
    kind: str
    output_shape: tuple[int | None, ...]
    parameters: int
    trainable_parameters: int
    multiply_adds: int


@dataclass(frozen=True)
class NetworkSummary:
    """A network's blocks and their totals.

    Attributes:
        name: the network's name.
        input_shape: shape of one image, (height, width, channels).
        blocks: the blocks, in the order in which they run.
        not_counted: names of the layers with kernels whose multiply-adds cannot be counted.
    """

    name: str
    input_shape: tuple[int, ...]
    blocks: tuple[Block, ...]
    not_counted: tuple[str, ...] = ()

    @property
    def parameters(self) -> int:
        """Number of stored values."""
        return sum(block.parameters for block in self.blocks)

    @property
    def trainable_parameters(self) -> int:
        """Number of trainable values."""
        return sum(block.trainable_parameters for block in self.blocks)

    @property
    def multiply_adds(self) -> int:
        """Number of multiply-adds for one image, without the layers in `not_counted`."""
        return sum(block.multiply_adds for block in self.blocks)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes and the totals as plain JSON data."""
        totals = ("parameters", "trainable_parameters", "multiply_adds")
        return asdict(self) | {name: getattr(self, name) for name in totals}


def summarize(
    source: str | Path | Network | Architecture, *, size: tuple[int, int] | None = None, verbose: bool = False
) -> NetworkSummary:
    """Count a network's parameters and multiply-adds, block by block; see `summarize_model`.

    Args:
        source: a Keras model (.keras or .h5), a network that was built or opened, or an architecture (no weights are
            needed).
        size: (height, width) of the input in pixels, for a file that does not fix them.
        verbose: whether to let TensorFlow print its messages.

    Raises:
        InputError: the file does not exist, or the network has another or no input size.
        ModelError: the source is not a Keras model, or cannot be loaded.
        EdgeqError: TensorFlow is not installed.
    """
    no_layers = "a SavedModel has no layers to list; give the Keras model that it was made from"
    if isinstance(source, str | Path) and (Path(source) / "saved_model.pb").is_file():
        raise ModelError(f"{source}: {no_layers}")
    with quiet(verbose):
        if isinstance(source, Architecture):
            model = in_new_session(lambda: build_keras_model(source))
            return replace(summarize_model(model), name=source.name)
        network = source if isinstance(source, Network) else open_network(source, size)
        if not hasattr(network.keeps_alive, "layers"):
            raise ModelError(f"{network.name}: {no_layers}")
        shape = (network.height, network.width, network.channels)
        return replace(summarize_model(network.keeps_alive, shape), name=network.name)


def summarize_model(model: Any, input_shape: tuple[int, int, int] | None = None) -> NetworkSummary:
    """Count a network's parameters and multiply-adds, block by block.

    Layers whose names have the same block prefix, such as ``block_1_``, form a block. In a network with such blocks,
    the layers after the last feature map form the block ``head``. Of all other layers, each one that has a kernel,
    pools or changes the shape is a block. The remaining layers (batch normalization, activations, additions) belong to
    the block whose output they read.

    Args:
        model: a built `keras.Model` with one input.
        input_shape: (height, width, channels), for a model that does not fix its input size.

    Raises:
        InputError: the model is not completely built, has several inputs, or has another or no input size.
        ModelError: the model cannot run on such an input.
    """
    shape = _input_shape(model, input_shape)
    leaves = leaves_of(model)
    weights = len(model.weights)
    calls = trace(model, shape, leaves)
    if len(model.weights) != weights:
        raise InputError(f"{model.name}: was not built all through; run it on an input first")
    called = {id(call.leaf) for call in calls}
    calls += [Call(leaf, [], []) for leaf in leaves if id(leaf) not in called and leaf.learned + leaf.kept]
    groups = _grouped(calls)
    names = Counter(group.name for group in groups)
    stored: set[int] = set()
    blocks = tuple(_block(group, names[group.name] > 1, stored) for group in groups)
    not_counted = dict.fromkeys(call.leaf.layer.name for call in calls if multiply_adds(call) is None)
    return NetworkSummary(model.name, shape, blocks, tuple(not_counted))


def _input_shape(model: Any, wanted: tuple[int, int, int] | None) -> tuple[int, ...]:
    """Height, width and channels of the model's input."""
    own = getattr(model, "input_shape", None) if model.built else None
    if not model.built or (own is None and wanted is None):
        raise InputError(f"{model.name}: is not built yet; run it on an input first")
    if own is None:  # a subclassed model, which accepts any input
        own = (None,) * (1 + len(wanted or ()))
    if not all(size is None or isinstance(size, int) for size in own):
        raise InputError(f"{model.name}: has {len(own)} inputs; only networks with one can be summarized")
    shape = tuple(wanted or own[1:])
    if None in shape:
        raise InputError(f"{model.name}: leaves its input size open; give --res")
    if len(own) != len(shape) + 1 or any(a not in (None, b) for a, b in zip(own[1:], shape, strict=True)):
        raise InputError(f"{model.name}: takes inputs of {own[1:]}, not {shape}")
    return shape


@dataclass
class _Group:
    """The calls that become one block."""

    name: str
    parent: str
    calls: list[Call] = field(default_factory=list)

    @property
    def leaves(self) -> list[Leaf]:
        """The layers, without duplicates: a shared layer has several calls."""
        return list({id(call.leaf): call.leaf for call in self.calls}.values())


def _grouped(calls: list[Call]) -> list[_Group]:
    """Group calls into blocks, which are in the order of their first calls."""
    groups: dict[Any, _Group] = {}
    made_by: dict[int, Any] = {}  # key of the group that computes a tensor, by its id; `calls` keeps the tensors alive
    in_blocks = in_head = False
    for call in calls:
        leaf = call.leaf
        block = _block_of(leaf)
        key: Any
        changes_shape = all(output.shape != tensor.shape for output in call.outputs[:1] for tensor in call.inputs)
        adds_something = changes_shape or step_of(leaf) or leaf.learned or leaf.kept
        if block is not None:
            in_blocks = True
            name, key = block, (leaf.parent, block)
        elif in_head or (in_blocks and _leaves_feature_map(call)):
            in_head = True
            name, key = _HEAD, _HEAD
        else:
            name, key = leaf.layer.name, id(leaf)
            producers = [made_by[id(tensor)] for tensor in call.inputs if id(tensor) in made_by]
            if producers and not (changes_shape or step_of(leaf)):
                key = max(producers, key=list(groups).index)
        if key in groups or adds_something:  # otherwise a layer such as Rescaling, with no block before it
            groups.setdefault(key, _Group(name, leaf.parent)).calls.append(call)
            made_by |= {id(tensor): key for tensor in call.outputs}
    return list(groups.values())


def _block_of(leaf: Leaf) -> str | None:
    """Return the block prefix in a layer's name or its parent's name, or None."""
    match = _BLOCK.match(f"{leaf.layer.name}_") or _BLOCK.match(f"{leaf.parent}_")
    return match[1] if match else None


def _leaves_feature_map(call: Call) -> bool:
    """Return whether a call pools a feature map globally, or outputs a vector."""
    pools = type(call.leaf.layer).__name__.startswith("Global")
    return pools or any(len(output.shape) < 4 for output in call.outputs)


def _block(group: _Group, qualified: bool, stored: set[int]) -> Block:
    """Summarize a group.

    Args:
        group: the calls.
        qualified: whether to add the parent's name, because another group has the same name.
        stored: ids of the variables of earlier groups, which are not counted again; those of this group are added.
    """

    def size(variables: list[Any]) -> int:
        new = {id(variable): math.prod(variable.shape) for variable in variables if id(variable) not in stored}
        stored.update(new)
        return sum(new.values())

    steps: list[str] = []
    for leaf in group.leaves:
        text = step_of(leaf)
        if text and not (text == "SE" and "SE" in steps[-1:]):
            steps.append(text)
    learned = size([variable for leaf in group.leaves for variable in leaf.learned])
    kept = size([variable for leaf in group.leaves for variable in leaf.kept])
    shapes = [tuple(call.outputs[0].shape)[1:] for call in group.calls if call.outputs]
    return Block(
        name=f"{group.parent}/{group.name}" if qualified and group.parent else group.name,
        kind=", ".join(steps) or type(group.leaves[0].layer).__name__,
        output_shape=shapes[-1] if shapes else (),
        parameters=learned + kept,
        trainable_parameters=learned,
        multiply_adds=sum(multiply_adds(call) or 0 for call in group.calls),
    )
