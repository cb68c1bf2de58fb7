"""Write metadata into a .tflite file: the standard TFLite Metadata and edgeq's own zip members.

The standard metadata is a FlatBuffer (metadata_schema.fbs 1.1.0, file identifier M001), from which other tools, such as
MediaPipe and Android's ML Model Binding, read normalization and labels. It is written table by table with the
``flatbuffers`` package, because no maintained package provides the generated classes on their own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import flatbuffers
import numpy as np
from flatbuffers import number_types

from edgeq.preprocessing import Preprocessing
from edgeq.tflite.archive import join, split
from edgeq.tflite.graph import load_schema
from edgeq.tflite.metadata import LABELS_MEMBER, METADATA_MEMBER, ModelMetadata
from edgeq.tflite.packing import pack_model
from edgeq.tflite.task import TENSORS

__all__ = ["pack", "repack"]

_PARSER_VERSION = "1.0.0"  # the fields used here exist since the first version of the schema
_LABELS_TYPE = 2  # AssociatedFileType.TENSOR_AXIS_LABELS
_IMAGE_PROPERTIES = 2  # ContentProperties.ImageProperties
_COLOR_SPACES = {"RGB": 1, "L": 2}  # ColorSpaceType
_NORMALIZATION_OPTIONS = 1  # ProcessUnitOptions.NormalizationOptions


def pack(model: bytes, name: str, metadata: ModelMetadata) -> bytes:
    """Add metadata to a converted model.

    Args:
        model: a .tflite flatbuffer without metadata.
        name: the model's name in the standard metadata.
        metadata: the metadata to write.

    Returns:
        The content of a .tflite file; the same arguments give bit-identical content.
    """
    main = load_schema().ModelT.InitFromPackedBuf(model, 0).subgraphs[0]
    if metadata.task == TENSORS:
        standard = _of_tensors(name, *([main.tensors[i].name for i in side] for side in (main.inputs, main.outputs)))
        return join(_add_standard_metadata(model, standard), metadata.to_members())
    # Other readers expect one label per output value, but a single sigmoid output has two classes.
    labelled = len(metadata.labels) == np.prod(main.tensors[main.outputs[0]].shape)
    return join(_add_standard_metadata(model, _standard_metadata(name, metadata, labelled)), metadata.to_members())


def repack(content: bytes, metadata: ModelMetadata) -> bytes:
    """Replace edgeq's metadata in a .tflite file. The model and the archive's other members stay unchanged.

    Args:
        content: the file's content.
        metadata: the metadata to write.

    Returns:
        The new content.

    Raises:
        ModelError: the archive is damaged.
    """
    model, members = split(content, "the model")
    return join(model, members | metadata.to_members())


def _add_standard_metadata(model: bytes, metadata: bytes) -> bytes:
    """Add the standard metadata, a flatbuffer, to a model, under the name that readers look for."""
    schema = load_schema()
    graph = schema.ModelT.InitFromPackedBuf(model, 0)
    buffer = schema.BufferT()
    buffer.data = np.frombuffer(metadata, np.uint8)
    entry = schema.MetadataT()
    entry.name, entry.buffer = b"TFLITE_METADATA", len(graph.buffers)
    graph.buffers.append(buffer)
    graph.metadata = [*(graph.metadata or []), entry]
    return pack_model(graph, len(model) + len(metadata))


def _standard_metadata(name: str, metadata: ModelMetadata, labelled: bool) -> bytes:
    """Build the ModelMetadata table of metadata_schema.fbs for an image classifier.

    The dictionaries map field numbers to values; comments give the fields' names in the schema.
    """
    builder = flatbuffers.Builder(1024)
    classes_files = [_file(builder, LABELS_MEMBER, "one label a line", _LABELS_TYPE)] if labelled else []
    outputs = _table(
        builder,
        {
            0: builder.CreateString("scores"),  # name
            1: builder.CreateString(f"{metadata.output or 'scores'} of the classes"),  # description
            6: _vector(builder, classes_files),  # associated_files
        },
    )
    subgraph = _table(
        builder,
        {
            2: _vector(builder, [_image(builder, metadata.preprocessing)]),  # input_tensor_metadata
            3: _vector(builder, [outputs]),  # output_tensor_metadata
        },
    )
    return _finished(builder, name, "image classifier, made with edgeq", subgraph)


def _finished(builder: Any, name: str, description: str, subgraph: int) -> bytes:
    """Build the ModelMetadata table of a model whose graph's table is written already; return the flatbuffer."""
    root = _table(
        builder,
        {
            0: builder.CreateString(name),  # name
            1: builder.CreateString(description),  # description
            3: _vector(builder, [subgraph]),  # subgraph_metadata
            6: _vector(builder, [_file(builder, METADATA_MEMBER, "preprocessing and provenance", 0)]),
            7: builder.CreateString(_PARSER_VERSION),  # min_parser_version
        },
    )
    builder.Finish(root, b"M001")
    return bytes(builder.Output())


def _of_tensors(name: str, inputs: Sequence[bytes], outputs: Sequence[bytes]) -> bytes:
    """Build the ModelMetadata table for a model of plain tensors with these names of inputs and outputs."""
    builder = flatbuffers.Builder(1024)
    sides = [[_table(builder, {0: builder.CreateString(n)}) for n in names] for names in (inputs, outputs)]
    subgraph = _table(builder, {2: _vector(builder, sides[0]), 3: _vector(builder, sides[1])})
    return _finished(builder, name, "made with edgeq", subgraph)


def _image(builder: Any, preprocessing: Preprocessing | None) -> int:
    """Build the TensorMetadata table of the image input."""
    fields: dict[int, Any] = {
        0: builder.CreateString("image"),  # name
        1: builder.CreateString("the image to classify"),  # description
    }
    if preprocessing is not None:
        size = _table(
            builder,
            {
                0: (number_types.Uint32Flags, preprocessing.width),
                1: (number_types.Uint32Flags, preprocessing.height),
            },
        )
        color_space = _COLOR_SPACES.get(preprocessing.channels, 0)
        properties = _table(builder, {0: (number_types.Int8Flags, color_space), 1: size})
        mean, std = (np.array(values, np.float32) for values in (preprocessing.mean, preprocessing.std))
        normalization = _table(builder, {0: builder.CreateNumpyVector(mean), 1: builder.CreateNumpyVector(std)})
        unit = _table(builder, {0: (number_types.Uint8Flags, _NORMALIZATION_OPTIONS), 1: normalization})
        fields[3] = _table(builder, {0: (number_types.Uint8Flags, _IMAGE_PROPERTIES), 1: properties})  # content
        fields[4] = _vector(builder, [unit])  # process_units
    return _table(builder, fields)


def _file(builder: Any, name: str, description: str, kind: int) -> int:
    """Build an AssociatedFile table."""
    return _table(
        builder,
        {
            0: builder.CreateString(name),
            1: builder.CreateString(description),
            2: (number_types.Int8Flags, kind),
        },
    )


def _table(builder: Any, fields: dict[int, Any]) -> int:
    """Write a table.

    Args:
        builder: the FlatBuffer builder.
        fields: for each field number, the value's offset, or the number type and value of a scalar.

    Returns:
        The table's offset.
    """
    builder.StartObject(max(fields) + 1)
    for number, value in fields.items():
        if isinstance(value, tuple):
            builder.PrependSlot(value[0], number, value[1], 0)
        else:
            builder.PrependUOffsetTRelativeSlot(number, value, 0)
    return int(builder.EndObject())


def _vector(builder: Any, offsets: Sequence[int]) -> int:
    """Write a vector of tables; return its offset."""
    builder.StartVector(4, len(offsets), 4)
    for offset in reversed(offsets):
        builder.PrependUOffsetTRelative(offset)
    return int(builder.EndVector())
