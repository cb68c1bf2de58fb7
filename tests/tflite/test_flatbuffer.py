"""The FlatBuffers reader against TFLite's own generated classes, and on buffers that lie."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.tflite import flatbuffer
from edgeq.tflite.flatbuffer import Table

# Field numbers in TFLite's schema.fbs (version 3): the position of each field in its table, types of unions included.
MODEL = {"version": 0, "operator_codes": 1, "subgraphs": 2, "description": 3, "buffers": 4, "metadata": 6}
OPERATOR_CODE = {"deprecated_builtin_code": 0, "version": 2, "builtin_code": 3}
SUBGRAPH = {"tensors": 0, "inputs": 1, "outputs": 2, "operators": 3, "name": 4}
TENSOR = {"shape": 0, "type": 1, "buffer": 2, "name": 3, "quantization": 4, "is_variable": 5}
QUANTIZATION = {"min": 0, "max": 1, "scale": 2, "zero_point": 3, "quantized_dimension": 6}
OPERATOR = {"opcode_index": 0, "inputs": 1, "outputs": 2, "options_type": 3, "options": 4}
BUFFER = {"data": 0}
METADATA = {"name": 0, "buffer": 1}


def assert_reads_as_the_generated_classes(content: bytes) -> None:
    """Every field of the model that edgeq may want, over all tables."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    theirs = schema.Model.GetRootAs(content, 0)
    ours = flatbuffer.root(content)
    assert ours.scalar(MODEL["version"], "<I") == theirs.Version() == 3
    assert ours.raw(MODEL["description"]) == (theirs.Description() or b"")
    for table, generated in pairs(ours.tables(MODEL["operator_codes"]), theirs, "OperatorCodes"):
        assert table.scalar(OPERATOR_CODE["deprecated_builtin_code"], "<b") == generated.DeprecatedBuiltinCode()
        assert table.scalar(OPERATOR_CODE["version"], "<i", default=1) == generated.Version()
        assert table.scalar(OPERATOR_CODE["builtin_code"], "<i") == generated.BuiltinCode()
    for table, generated in pairs(ours.tables(MODEL["buffers"]), theirs, "Buffers"):
        assert table.raw(BUFFER["data"]) == (generated.DataAsNumpy().tobytes() if generated.DataLength() else b"")
        assert table.length(BUFFER["data"]) == generated.DataLength()
    for table, generated in pairs(ours.tables(MODEL["metadata"]), theirs, "Metadata"):
        assert table.raw(METADATA["name"]) == generated.Name()
        assert table.scalar(METADATA["buffer"], "<I") == generated.Buffer()
    for subgraph, generated in pairs(ours.tables(MODEL["subgraphs"]), theirs, "Subgraphs"):
        assert subgraph.raw(SUBGRAPH["name"]) == (generated.Name() or b"")
        assert subgraph.length(SUBGRAPH["inputs"]) == generated.InputsLength()
        assert subgraph.length(SUBGRAPH["outputs"]) == generated.OutputsLength()
        for table, tensor in pairs(subgraph.tables(SUBGRAPH["tensors"]), generated, "Tensors"):
            assert_same_tensor(table, tensor)
        for table, operator in pairs(subgraph.tables(SUBGRAPH["operators"]), generated, "Operators"):
            assert table.scalar(OPERATOR["opcode_index"], "<I") == operator.OpcodeIndex()
            assert table.integers(OPERATOR["inputs"]) == tuple(
                operator.Inputs(i) for i in range(operator.InputsLength())
            )
            assert table.scalar(OPERATOR["options_type"], "<B") == operator.BuiltinOptionsType()
            assert (table.table(OPERATOR["options"]) is None) == (operator.BuiltinOptions() is None)


def assert_same_tensor(table: Table, tensor: Any) -> None:
    assert table.raw(TENSOR["name"]) == (tensor.Name() or b"")
    assert table.length(TENSOR["shape"]) == tensor.ShapeLength()
    assert table.scalar(TENSOR["type"], "<b") == tensor.Type()
    assert table.scalar(TENSOR["buffer"], "<I") == tensor.Buffer()
    assert table.scalar(TENSOR["is_variable"], "<?") == tensor.IsVariable()
    quantization, generated = table.table(TENSOR["quantization"]), tensor.Quantization()
    assert (quantization is None) == (generated is None)
    if quantization is not None:
        scale = generated.ScaleAsNumpy() if generated.ScaleLength() else np.zeros(0, np.float32)
        assert quantization.floats(QUANTIZATION["scale"]) == tuple(scale.tolist())
        assert quantization.length(QUANTIZATION["zero_point"]) == generated.ZeroPointLength()
        assert quantization.scalar(QUANTIZATION["quantized_dimension"], "<i") == generated.QuantizedDimension()


def pairs(tables: list[Table], owner: Any, what: str) -> list[tuple[Table, Any]]:
    """Each of our tables with its generated counterpart, as many of the one as of the other."""
    assert len(tables) == getattr(owner, f"{what}Length")()
    return [(table, getattr(owner, what)(i)) for i, table in enumerate(tables)]


@pytest.mark.parametrize("form", ["fp32", "int8", "fp16", "dynamic", "int16x8"])
def test_reads_our_files_as_the_generated_classes(colour_models: Path, form: str) -> None:
    content = (colour_models / f"colours_{form}.tflite").read_bytes()
    assert len(flatbuffer.root(content).tables(MODEL["subgraphs"])[0].tables(SUBGRAPH["tensors"])) > 5
    assert_reads_as_the_generated_classes(content)


def test_reads_files_of_others_as_the_generated_classes(shared: Path) -> None:
    paths = sorted((shared / "models").rglob("*.tflite"))
    assert len(paths) >= 8
    for path in paths:
        assert_reads_as_the_generated_classes(path.read_bytes())


def test_any_kind_of_buffer_will_do(colour_models: Path) -> None:
    content = (colour_models / "colours_int8.tflite").read_bytes()
    expected = [table.raw(0) for table in flatbuffer.root(content).tables(MODEL["buffers"])]
    for view in (bytearray(content), memoryview(content)):
        assert [table.raw(0) for table in flatbuffer.root(view).tables(MODEL["buffers"])] == expected


@pytest.fixture
def written() -> bytes:
    """A table by the ``flatbuffers`` package: an int8 of -5, nothing, floats, a string, a table of one uint16."""
    flatbuffers = pytest.importorskip("flatbuffers")
    builder = flatbuffers.Builder()
    text = builder.CreateString("grün")
    builder.StartVector(4, 3, 4)
    for value in (0.25, -1.5, 3e38):
        builder.PrependFloat32(value)
    numbers = builder.EndVector()
    builder.StartObject(1)
    builder.PrependUint16Slot(0, 65535, 0)
    inner = builder.EndObject()
    builder.StartObject(5)
    builder.PrependInt8Slot(0, -5, 0)
    for slot, offset in ((2, numbers), (3, text), (4, inner)):
        builder.PrependUOffsetTRelativeSlot(slot, offset, 0)
    builder.Finish(builder.EndObject())
    return bytes(builder.Output())


def test_reads_what_the_flatbuffers_package_writes(written: bytes) -> None:
    table = flatbuffer.root(written)
    assert table.scalar(0, "<b") == -5
    assert table.floats(2) == (np.float32(3e38), -1.5, 0.25)
    assert table.raw(3) == "grün".encode()
    assert table.length(3) == len("grün".encode())
    inner = table.table(4)
    assert inner is not None
    assert inner.scalar(0, "<H") == 65535


@pytest.mark.parametrize("field", [1, 5, 1000], ids=["left out", "past the table", "far past the table"])
def test_absent_fields(written: bytes, field: int) -> None:
    table = flatbuffer.root(written)
    assert table.position_of(field) is None
    assert table.scalar(field, "<i") == 0
    assert table.scalar(field, "<i", default=7) == 7
    assert table.table(field) is None
    assert (table.tables(field), table.raw(field), table.length(field)) == ([], b"", 0)
    assert table.floats(field) == table.integers(field) == ()


def test_a_position_is_where_to_write(written: bytes) -> None:
    """Patching a file in place, as the repair of old models does."""
    content = bytearray(written)
    position = flatbuffer.root(content).position_of(0)
    assert position is not None
    content[position : position + 1] = struct.pack("<b", 99)
    assert flatbuffer.root(content).scalar(0, "<b") == 99
    assert flatbuffer.root(content).raw(3) == "grün".encode()


@pytest.mark.parametrize("length", [0, 1, 3, 4, 7])
def test_a_buffer_that_ends_too_early_is_a_struct_error(written: bytes, length: int) -> None:
    with pytest.raises(struct.error):
        flatbuffer.root(written[:length]).scalar(0, "<b")


def walk(table: Table, depth: int = 0) -> int:
    """Read all that a table has, as any type; gives how much that was."""
    count = 0
    for field in range(5):
        count += table.scalar(field, "<b") != 0
        count += len(table.raw(field))
        inner = table.table(field)
        if inner is not None and depth < 2:
            count += walk(inner, depth + 1)
        count += len(table.floats(field)) + len(table.integers(field))
        count += len(table.tables(field))
    return count


def test_lying_buffers_are_struct_errors_and_nothing_worse(written: bytes) -> None:
    """No hang, no huge allocation, no IndexError: offsets and lengths may be anything."""
    rng = np.random.default_rng(0)
    outcomes = {"read": 0, "struct.error": 0}
    for _ in range(3000):
        damaged = bytearray(written)
        for place in rng.integers(0, len(damaged), rng.integers(1, 4)):
            damaged[place] = rng.integers(256)
        try:
            walk(flatbuffer.root(bytes(damaged)))
            outcomes["read"] += 1
        except struct.error:
            outcomes["struct.error"] += 1
    assert outcomes["struct.error"] > 100
