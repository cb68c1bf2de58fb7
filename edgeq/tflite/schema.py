"""Field numbers of the FlatBuffer tables that edgeq reads. A field's number is its position in the schema's table.

There is one class per table of TFLite's schema.fbs (version 3) and TFLite Metadata's metadata_schema.fbs (1.1.0).
"""

from __future__ import annotations

__all__ = [
    "BlockwiseQuantization", "Buffer", "Metadata", "Model", "ModelMetadata", "NormalizationOptions", "Operator",
    "OperatorCode", "ProcessUnit", "Quantization", "Signature", "SignatureTensor", "SparseDimension", "Sparsity",
    "Subgraph", "SubgraphMetadata", "Tensor", "TensorMetadata",
]  # fmt: skip

# ruff: noqa: D101, the schemas say what each table is


class Model:
    VERSION, OPERATOR_CODES, SUBGRAPHS, BUFFERS, METADATA_BUFFER, METADATA, SIGNATURES = 0, 1, 2, 4, 5, 6, 7
    EXTERNAL_BUFFERS = 9


class Subgraph:
    TENSORS, INPUTS, OUTPUTS, OPERATORS = 0, 1, 2, 3


class Tensor:
    SHAPE, TYPE, BUFFER, NAME, QUANTIZATION, IS_VARIABLE, SPARSITY, SHAPE_SIGNATURE = 0, 1, 2, 3, 4, 5, 6, 7
    EXTERNAL_BUFFER = 10


class Quantization:
    SCALE, ZERO_POINT, DETAILS_TYPE, DETAILS, DIMENSION = 2, 3, 4, 5, 6
    IS_BLOCKWISE, IS_MULTI_AXIS = 2, 3  # values of the field `DETAILS_TYPE`


class BlockwiseQuantization:
    SCALES, ZERO_POINTS, BLOCK_SIZE = 0, 1, 2


class Sparsity:
    TRAVERSAL_ORDER, BLOCK_MAP, DIMENSIONS = 0, 1, 2


class SparseDimension:
    FORMAT, DENSE_SIZE, SEGMENTS_TYPE, SEGMENTS, INDICES_TYPE, INDICES = 0, 1, 2, 3, 4, 5


class OperatorCode:
    DEPRECATED_BUILTIN, CUSTOM, BUILTIN = 0, 1, 3


class Operator:
    CODE_INDEX, INPUTS, OUTPUTS, OPTIONS_TYPE, OPTIONS, CUSTOM_OPTIONS, INTERMEDIATES = 0, 1, 2, 3, 4, 5, 8
    LARGE_OPTIONS_OFFSET, LARGE_OPTIONS_SIZE, OPTIONS_2_TYPE, OPTIONS_2 = 9, 10, 11, 12


class Buffer:
    DATA, OFFSET, SIZE = 0, 1, 2


class Metadata:
    NAME, BUFFER = 0, 1


class Signature:
    INPUTS, OUTPUTS, SUBGRAPH = 0, 1, 4


class SignatureTensor:
    INDEX = 1


# metadata_schema.fbs


class ModelMetadata:
    SUBGRAPHS = 3


class SubgraphMetadata:
    INPUTS = 2


class TensorMetadata:
    PROCESS_UNITS = 4


class ProcessUnit:
    TYPE, OPTIONS = 0, 1
    IS_NORMALIZATION = 1  # value of the field `TYPE` for normalization options


class NormalizationOptions:
    MEAN, STD = 0, 1
