"""What TFLite's operators need: their numbers of inputs and outputs, and options within the range that kernels expect.

Kernels check most of this themselves, but not in every version: files were published whose missing input, zero stride
or overflowing product crashed one. Sources: schema.fbs, and the functions ``Prepare`` in tensorflow/lite/kernels.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["ARITIES", "CUSTOM_OPERATORS", "OPERATORS", "OPTIONAL_INPUTS", "OPTIONS", "Arity", "OptionRange", "Options"]

OPERATORS = tuple(
    """
    ADD AVERAGE_POOL_2D CONCATENATION CONV_2D DEPTHWISE_CONV_2D DEPTH_TO_SPACE DEQUANTIZE EMBEDDING_LOOKUP FLOOR
    FULLY_CONNECTED HASHTABLE_LOOKUP L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION LOGISTIC
    LSH_PROJECTION LSTM MAX_POOL_2D MUL RELU RELU_N1_TO_1 RELU6 RESHAPE RESIZE_BILINEAR RNN SOFTMAX SPACE_TO_DEPTH
    SVDF TANH CONCAT_EMBEDDINGS SKIP_GRAM CALL CUSTOM EMBEDDING_LOOKUP_SPARSE PAD UNIDIRECTIONAL_SEQUENCE_RNN GATHER
    BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND TRANSPOSE MEAN SUB DIV SQUEEZE UNIDIRECTIONAL_SEQUENCE_LSTM STRIDED_SLICE
    BIDIRECTIONAL_SEQUENCE_RNN EXP TOPK_V2 SPLIT LOG_SOFTMAX DELEGATE BIDIRECTIONAL_SEQUENCE_LSTM CAST PRELU MAXIMUM
    ARG_MAX MINIMUM LESS NEG PADV2 GREATER GREATER_EQUAL LESS_EQUAL SELECT SLICE SIN TRANSPOSE_CONV SPARSE_TO_DENSE
    TILE EXPAND_DIMS EQUAL NOT_EQUAL LOG SUM SQRT RSQRT SHAPE POW ARG_MIN FAKE_QUANT REDUCE_PROD REDUCE_MAX PACK
    LOGICAL_OR ONE_HOT LOGICAL_AND LOGICAL_NOT UNPACK REDUCE_MIN FLOOR_DIV REDUCE_ANY SQUARE ZEROS_LIKE FILL
    FLOOR_MOD RANGE RESIZE_NEAREST_NEIGHBOR LEAKY_RELU SQUARED_DIFFERENCE MIRROR_PAD ABS SPLIT_V UNIQUE CEIL
    REVERSE_V2 ADD_N GATHER_ND COS WHERE RANK ELU REVERSE_SEQUENCE MATRIX_DIAG QUANTIZE MATRIX_SET_DIAG ROUND
    HARD_SWISH IF WHILE NON_MAX_SUPPRESSION_V4 NON_MAX_SUPPRESSION_V5 SCATTER_ND SELECT_V2 DENSIFY SEGMENT_SUM
    BATCH_MATMUL PLACEHOLDER_FOR_GREATER_OP_CODES CUMSUM CALL_ONCE BROADCAST_TO RFFT2D CONV_3D IMAG REAL COMPLEX_ABS
    HASHTABLE HASHTABLE_FIND HASHTABLE_IMPORT HASHTABLE_SIZE REDUCE_ALL CONV_3D_TRANSPOSE VAR_HANDLE READ_VARIABLE
    ASSIGN_VARIABLE BROADCAST_ARGS RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM MULTINOMIAL GELU
    DYNAMIC_UPDATE_SLICE RELU_0_TO_1 UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM ATAN2
    UNSORTED_SEGMENT_MIN SIGN BITCAST BITWISE_XOR RIGHT_SHIFT STABLEHLO_LOGISTIC STABLEHLO_ADD STABLEHLO_DIVIDE
    STABLEHLO_MULTIPLY STABLEHLO_MAXIMUM STABLEHLO_RESHAPE STABLEHLO_CLAMP STABLEHLO_CONCATENATE
    STABLEHLO_BROADCAST_IN_DIM STABLEHLO_CONVOLUTION STABLEHLO_SLICE STABLEHLO_CUSTOM_CALL STABLEHLO_REDUCE
    STABLEHLO_ABS STABLEHLO_AND STABLEHLO_COSINE STABLEHLO_EXPONENTIAL STABLEHLO_FLOOR STABLEHLO_LOG
    STABLEHLO_MINIMUM STABLEHLO_NEGATE STABLEHLO_OR STABLEHLO_POWER STABLEHLO_REMAINDER STABLEHLO_RSQRT
    STABLEHLO_SELECT STABLEHLO_SUBTRACT STABLEHLO_TANH STABLEHLO_SCATTER STABLEHLO_COMPARE STABLEHLO_CONVERT
    STABLEHLO_DYNAMIC_SLICE STABLEHLO_DYNAMIC_UPDATE_SLICE STABLEHLO_PAD STABLEHLO_IOTA STABLEHLO_DOT_GENERAL
    STABLEHLO_REDUCE_WINDOW STABLEHLO_SORT STABLEHLO_WHILE STABLEHLO_GATHER STABLEHLO_TRANSPOSE DILATE
    STABLEHLO_RNG_BIT_GENERATOR REDUCE_WINDOW STABLEHLO_COMPOSITE STABLEHLO_SHIFT_LEFT STABLEHLO_CBRT STABLEHLO_CASE
    """.split()  # noqa: SIM905 (210 lines as a list)
)
"""Names of the built-in operators, by number (``BuiltinOperator`` in schema.fbs)."""

CUSTOM_OPERATORS = ("TFLite_Detection_PostProcess", "AudioSpectrogram", "Mfcc", "NumericVerify")
"""Custom operators that the runtimes contain (tensorflow/lite/kernels/register.cc)."""


class Arity(NamedTuple):
    """Smallest and largest numbers of inputs and outputs."""

    least_inputs: int
    most_inputs: int
    least_outputs: int
    most_outputs: int


_ANY = 1 << 16

_ARITIES = {
    (1, 1, 1, 1): """
        AVERAGE_POOL_2D DEPTH_TO_SPACE DEQUANTIZE FLOOR L2_NORMALIZATION L2_POOL_2D LOCAL_RESPONSE_NORMALIZATION
        LOGISTIC MAX_POOL_2D RELU RELU_N1_TO_1 RELU6 SOFTMAX SPACE_TO_DEPTH TANH SKIP_GRAM SQUEEZE EXP LOG_SOFTMAX CAST
        NEG SIN LOG SQRT RSQRT SHAPE FAKE_QUANT LOGICAL_NOT SQUARE ZEROS_LIKE LEAKY_RELU ABS CEIL COS WHERE RANK ELU
        MATRIX_DIAG QUANTIZE ROUND HARD_SWISH DENSIFY IMAG REAL COMPLEX_ABS HASHTABLE_SIZE READ_VARIABLE
        RANDOM_STANDARD_NORMAL BUCKETIZE RANDOM_UNIFORM GELU RELU_0_TO_1 SIGN BITCAST""",
    (2, 2, 1, 1): """
        ADD MUL SUB DIV EMBEDDING_LOOKUP RESIZE_BILINEAR PAD GATHER TRANSPOSE MEAN PRELU MAXIMUM MINIMUM ARG_MAX ARG_MIN
        LESS GREATER GREATER_EQUAL LESS_EQUAL TILE EXPAND_DIMS EQUAL NOT_EQUAL SUM POW REDUCE_PROD REDUCE_MAX REDUCE_MIN
        REDUCE_ANY REDUCE_ALL LOGICAL_OR LOGICAL_AND FLOOR_DIV FILL FLOOR_MOD RESIZE_NEAREST_NEIGHBOR SQUARED_DIFFERENCE
        MIRROR_PAD REVERSE_V2 GATHER_ND REVERSE_SEQUENCE MATRIX_SET_DIAG SEGMENT_SUM BATCH_MATMUL CUMSUM BROADCAST_TO
        RFFT2D BROADCAST_ARGS MULTINOMIAL ATAN2 BITWISE_XOR RIGHT_SHIFT""",
    (3, 3, 1, 1): """
        BATCH_TO_SPACE_ND SPACE_TO_BATCH_ND PADV2 SELECT SELECT_V2 SLICE RANGE SCATTER_ND DYNAMIC_UPDATE_SLICE
        UNSORTED_SEGMENT_PROD UNSORTED_SEGMENT_MAX UNSORTED_SEGMENT_SUM UNSORTED_SEGMENT_MIN HASHTABLE_FIND""",
    (4, 4, 1, 1): "SPARSE_TO_DENSE ONE_HOT",
    (4, 5, 1, 1): "STRIDED_SLICE",
    (5, 5, 1, 1): "EMBEDDING_LOOKUP_SPARSE RNN UNIDIRECTIONAL_SEQUENCE_RNN",
    (4, 5, 1, 2): "SVDF",
    (2, 3, 1, 1): "CONV_2D DEPTHWISE_CONV_2D CONV_3D LSH_PROJECTION",
    (2, 3, 1, 2): "FULLY_CONNECTED",
    (3, 4, 1, 1): "TRANSPOSE_CONV CONV_3D_TRANSPOSE",
    (1, 2, 1, 1): "RESHAPE",
    (1, _ANY, 1, 1): "CONCATENATION PACK ADD_N",
    (1, 1, 1, _ANY): "UNPACK",
    (2, 2, 1, _ANY): "SPLIT",
    (3, 3, 1, _ANY): "SPLIT_V",
    (1, _ANY, 0, _ANY): "IF WHILE",
    (0, 0, 0, 0): "CALL_ONCE",
    (0, 0, 1, 1): "VAR_HANDLE HASHTABLE",
    (2, 2, 0, 0): "ASSIGN_VARIABLE",
    (3, 3, 0, 0): "HASHTABLE_IMPORT",
    (3, 3, 2, 2): "HASHTABLE_LOOKUP",
    (2, 2, 2, 2): "TOPK_V2",
    (1, 1, 2, 2): "UNIQUE",
    (5, 5, 2, 2): "NON_MAX_SUPPRESSION_V4",
    (6, 6, 3, 3): "NON_MAX_SUPPRESSION_V5",
    (5, 24, 1, 4): "LSTM",
    (20, 24, 1, 1): "UNIDIRECTIONAL_SEQUENCE_LSTM",
    (12, 12, 1, 2): "BIDIRECTIONAL_SEQUENCE_RNN",
    (48, 48, 1, 2): "BIDIRECTIONAL_SEQUENCE_LSTM",
}

ARITIES = {name: Arity(*arity) for arity, names in _ARITIES.items() for name in names.split()}
"""The arity of each operator that has a fixed one. Inputs beyond the smallest number may be absent (-1)."""

OPTIONAL_INPUTS = (
    "LSTM",
    "UNIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_LSTM",
    "BIDIRECTIONAL_SEQUENCE_RNN",
    "SVDF",
)
"""Operators of which any input may be absent."""


class OptionRange(NamedTuple):
    """The permitted range of a numeric option.

    Attributes:
        field: the field's number in the table of options.
        name: the field's name.
        form: the field's :mod:`struct` format.
        default: the value of an absent field.
        least: the smallest permitted value.
        most: the largest permitted value.
    """

    field: int
    name: str
    form: str
    default: int
    least: int
    most: int


class Options(NamedTuple):
    """The options that an operator must have.

    Attributes:
        kind: the number of its type in the union ``BuiltinOptions``.
        ranges: its fields with a limited range.
    """

    kind: int
    ranges: tuple[OptionRange, ...]


_MOST_STEPS = 1 << 16  # of a stride or a window; no picture is larger


def _padding(field: int) -> OptionRange:
    return OptionRange(field, "padding", "<b", 0, 0, 1)


def _activation(field: int) -> OptionRange:
    return OptionRange(field, "fused_activation_function", "<b", 0, 0, 5)


def _steps(**fields: int) -> tuple[OptionRange, ...]:
    """Return the ranges of options that count something; a dilation that is absent is 1."""
    return tuple(
        OptionRange(field, name, "<i", int(name.startswith("dilation")), 1, _MOST_STEPS)
        for name, field in fields.items()
    )


def _axis(field: int) -> OptionRange:
    return OptionRange(field, "axis", "<i", 0, -8, 8)


_POOL = Options(5, (_padding(0), *_steps(stride_w=1, stride_h=2, filter_width=3, filter_height=4), _activation(5)))

OPTIONS = {
    "CONV_2D": Options(
        1,
        (_padding(0), *_steps(stride_w=1, stride_h=2, dilation_w_factor=4, dilation_h_factor=5), _activation(3)),
    ),
    "DEPTHWISE_CONV_2D": Options(
        2,
        (
            _padding(0),
            *_steps(stride_w=1, stride_h=2, dilation_w_factor=5, dilation_h_factor=6),
            OptionRange(3, "depth_multiplier", "<i", 0, 0, _MOST_STEPS),
            _activation(4),
        ),
    ),
    "AVERAGE_POOL_2D": _POOL,
    "MAX_POOL_2D": _POOL,
    "L2_POOL_2D": _POOL,
    "SVDF": Options(6, (*_steps(rank=0), _activation(1))),
    "SPACE_TO_DEPTH": Options(19, _steps(block_size=0)),
    "DEPTH_TO_SPACE": Options(94, _steps(block_size=0)),
    "SPLIT": Options(35, _steps(num_splits=0)),
    "SPLIT_V": Options(79, _steps(num_splits=0)),
    "PACK": Options(59, (*_steps(values_count=0), _axis(1))),
    "UNPACK": Options(64, (_axis(1),)),
    "TRANSPOSE_CONV": Options(49, (_padding(0), *_steps(stride_w=1, stride_h=2), _activation(3))),
    "CONV_3D": Options(
        106,
        (
            _padding(0),
            *_steps(stride_d=1, stride_w=2, stride_h=3),
            _activation(4),
            *_steps(dilation_d_factor=5, dilation_w_factor=6, dilation_h_factor=7),
        ),
    ),
    "CALL": Options(16, ()),
    "IF": Options(92, ()),
    "WHILE": Options(93, ()),
    "CALL_ONCE": Options(103, ()),
}
"""The options of each operator that cannot do without: their defaults are zero, by which kernels divide."""
