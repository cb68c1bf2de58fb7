"""Find out what a model's outputs mean: classes of an image, or plain tensors. Uses only the standard library."""

from __future__ import annotations

import math
import mmap
import struct
from collections.abc import Sequence
from pathlib import Path

from edgeq.errors import InputError, ModelError
from edgeq.tflite import flatbuffer, schema
from edgeq.tflite.checking import check_file
from edgeq.tflite.metadata import ModelMetadata, read_metadata

__all__ = ["CLASSIFICATION", "TASKS", "TENSORS", "image_layout", "read_task"]

CLASSIFICATION, TENSORS = "classification", "tensors"
TASKS = (CLASSIFICATION, TENSORS)
"""What a model's outputs can mean.

- ``classification``: the model takes one image, and its only output holds one score per class.
- ``tensors``: everything else. Inputs and outputs are named arrays of numbers, which edgeq does not interpret.
"""

_IMAGE_DIMENSIONS = 4
_CHANNELS = (1, 3)


def image_layout(shape: Sequence[int]) -> str | None:
    """Return the dimension order of an input of images, ``NHWC`` or ``NCHW``; None for an input of another kind.

    Args:
        shape: the input's shape, including the batch dimension.
    """
    if len(shape) == _IMAGE_DIMENSIONS and shape[0] == 1:
        if shape[3] in _CHANNELS:
            return "NHWC"
        if shape[1] in _CHANNELS:
            return "NCHW"
    return None


def read_task(path: str | Path, task: str | None = None, metadata: ModelMetadata | None = None) -> str:
    """Find out whether a model is an image classifier.

    edgeq's metadata says it. In files from other tools, a model with one image input and one output of which at most
    one dimension is larger than 1 is a classifier.

    Args:
        path: a .tflite file.
        task: the user's choice, one of `TASKS`; None to read it from the file.
        metadata: the file's metadata, if the caller has read it already.

    Returns:
        One of `TASKS`.

    Raises:
        InputError: the task is unknown.
        ModelError: the file does not exist, is not a .tflite model, or its tables are damaged.
    """
    if task is not None:
        if task not in TASKS:
            raise InputError(f"task {task!r}: must be one of {', '.join(TASKS)}")
        return task
    check_file(path)
    metadata = metadata or read_metadata(path)
    if metadata.task is not None:
        return metadata.task
    if metadata.output is not None:  # edgeq writes it for classifiers
        return CLASSIFICATION
    with Path(path).open("rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as content:
        try:
            inputs, outputs = _shapes(flatbuffer.root(content))
        except (struct.error, IndexError):
            raise ModelError(f"{path}: the file is damaged: its tables are invalid; copy or convert it again") from None
    classifies = len(inputs) == len(outputs) == 1 and image_layout(inputs[0]) and math.prod(outputs[0]) in outputs[0]
    return CLASSIFICATION if classifies else TENSORS


def _shapes(model: flatbuffer.Table) -> tuple[list[tuple[int, ...]], list[tuple[int, ...]]]:
    """Return the shapes of a model's inputs and of its outputs."""
    graph = model.tables(schema.Model.SUBGRAPHS)[0]
    tensors = graph.tables(schema.Subgraph.TENSORS)
    inputs, outputs = (graph.integers(side) for side in (schema.Subgraph.INPUTS, schema.Subgraph.OUTPUTS))
    found = [[tensors[index].integers(schema.Tensor.SHAPE) for index in side] for side in (inputs, outputs)]
    return found[0], found[1]
