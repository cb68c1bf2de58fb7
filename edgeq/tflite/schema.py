"""Field numbers of the FlatBuffer tables that edgeq reads. A field's number is its position in the schema's table.

There is one class per table of TFLite's schema.fbs (version 3) and TFLite Metadata's metadata_schema.fbs (1.1.0).
"""

from __future__ import annotations

__all__ = [
    "Buffer", "Metadata", "Model", "ModelMetadata", "NormalizationOptions", "Operator", "OperatorCode", "ProcessUnit",
    "Quantization", "Subgraph", "SubgraphMetadata", "Tensor", "TensorMetadata",
]  # fmt: skip

# ruff: noqa: D101, the schemas say what each table is


class Model:
    OPERATOR_CODES, SUBGRAPHS, BUFFERS, METADATA = 1, 2, 4, 6


class Subgraph:
    TENSORS, INPUTS, OUTPUTS, OPERATORS = 0, 1, 2, 3


class Tensor:
    SHAPE, NAME, QUANTIZATION = 0, 3, 4


class Quantization:
    SCALE, ZERO_POINT, DIMENSION = 2, 3, 6


class OperatorCode:
    DEPRECATED_BUILTIN, BUILTIN = 0, 3


class Operator:
    CODE_INDEX, INPUTS, OUTPUTS, OPTIONS = 0, 1, 2, 4


class Buffer:
    DATA, OFFSET, SIZE = 0, 1, 2


class Metadata:
    NAME, BUFFER = 0, 1


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
