"""Damage .tflite files in reproducible ways: at random, and where it hurts. Used by scripts/fuzz and by the tests."""

from __future__ import annotations

import random
import struct
from functools import cached_property

from edgeq.tflite import flatbuffer, schema

__all__ = ["KINDS", "Subject"]

_WORDS = (
    0,
    1,
    2,
    3,
    4,
    5,
    7,
    8,
    127,
    128,
    255,
    256,
    65535,
    65536,
    2**24,
    2**30,
    2**31 - 1,
    2**31,
    2**32 - 2,
    2**32 - 1,
)
_SMALL = (0, 1, 2, 3, 4, 8, 16, 64, 255)

KINDS = {
    "bits": 3,  # flipped anywhere in the file
    "word": 3,  # of 4 bytes, anywhere, replaced by a value at some limit
    "table word": 1,  # the same, but not in a buffer
    "truncate": 1,
    "swap": 1,  # two blocks
    "duplicate": 1,  # one block, over another
    "field": 1,  # a number that the schema knows: an index, dimension, type, length, option, scale
    "fields": 1,  # two to four of them
}
"""The kinds of damage, and how often each occurs, as a share of 12."""


class Subject:
    """A valid model to damage."""

    def __init__(self, content: bytes) -> None:
        """Take a model.

        Args:
            content: the content of a .tflite file.
        """
        self.content = content

    def mutant(self, rng: random.Random) -> tuple[str, bytes]:
        """Return the kind of damage, and a damaged copy of the file."""
        (kind,) = rng.choices(list(KINDS), list(KINDS.values()))
        data = bytearray(self.content)
        size = len(data)
        if kind == "bits":
            for _ in range(rng.choice((1, 1, 2, 8, 64))):
                data[rng.randrange(size)] ^= 1 << rng.randrange(8)
        elif kind == "word":
            struct.pack_into("<I", data, rng.randrange(0, size - 4, 4), rng.choice(_WORDS))
        elif kind == "table word":
            struct.pack_into("<I", data, rng.choice(self._table_words), rng.choice(_WORDS))
        elif kind == "truncate":
            del data[rng.randrange(size) :]
        elif kind in ("swap", "duplicate"):
            length = rng.choice((4, 8, 16, 64, 256))
            a, b = (rng.randrange(0, size - length, 4) for _ in range(2))
            if rng.random() < 0.5:  # within the tables
                a, b = (min(rng.choice(self._table_words), size - length) for _ in range(2))
            first, second = bytes(data[a : a + length]), bytes(data[b : b + length])
            data[a : a + length] = second
            if kind == "swap":
                data[b : b + length] = first
        else:
            for _ in range(1 if kind == "field" else rng.randint(2, 4)):
                self._change_field(data, rng)
        return kind, bytes(data)

    def _change_field(self, data: bytearray, rng: random.Random) -> None:
        position, form = rng.choice(rng.choice(self._fields))
        bits = 8 * struct.calcsize(form)
        if form == "<f":
            value = rng.choice((0.0, -1.0, 1e-30, 1e30, float("inf"), float("nan"), 0.5))
            struct.pack_into(form, data, position, value)
            return
        old = struct.unpack_from(form, data, position)[0]
        choice = rng.random()
        if choice < 0.4:
            new = old + rng.choice((-2, -1, 1, 2, 8))
        elif choice < 0.7:
            new = rng.choice(_SMALL)
        else:
            new = rng.choice(_WORDS) if bits >= 32 else rng.randrange(1 << bits)
        new &= (1 << bits) - 1
        struct.pack_into(form.upper(), data, position, new)

    @cached_property
    def _table_words(self) -> list[int]:
        """Positions of the 4-byte words that belong to no buffer."""
        inside: set[int] = set()
        for buffer in flatbuffer.root(self.content).tables(schema.Model.BUFFERS):
            start, length = buffer.vector(schema.Buffer.DATA)
            inside.update(range(start & ~3, start + length, 4))
        return [at for at in range(0, len(self.content) - 4, 4) if at not in inside]

    @cached_property
    def _fields(self) -> list[list[tuple[int, str]]]:
        """Positions and formats of the numbers in the tables, in groups of one meaning each."""
        groups: dict[str, list[tuple[int, str]]] = {}

        def scalar(group: str, table: flatbuffer.Table | None, field: int, form: str) -> None:
            position = table.position_of(field) if table else None
            if position is not None:
                groups.setdefault(group, []).append((position, form))

        def vector(group: str, table: flatbuffer.Table, field: int, form: str) -> None:
            start, length = table.vector(field)
            if start:
                groups.setdefault(f"length of {group}", []).append((start - 4, "<i"))
            step = struct.calcsize(form)
            items = [(start + step * i, form) for i in range(min(length, 64))]
            if items:
                groups.setdefault(group, []).extend(items)

        model = flatbuffer.root(self.content)
        for code in model.tables(schema.Model.OPERATOR_CODES):
            scalar("code", code, schema.OperatorCode.DEPRECATED_BUILTIN, "<b")
            scalar("code", code, schema.OperatorCode.BUILTIN, "<i")
        for buffer in model.tables(schema.Model.BUFFERS):
            scalar("buffer", buffer, schema.Buffer.OFFSET, "<q")
            scalar("buffer", buffer, schema.Buffer.SIZE, "<q")
            start, length = buffer.vector(schema.Buffer.DATA)
            if start:
                groups.setdefault("length of buffer", []).append((start - 4, "<i"))
            if 4 <= length <= 64:  # shapes, axes and paddings
                groups.setdefault("small constant", []).extend((start + i, "<i") for i in range(0, length - 3, 4))
        for part in model.tables(schema.Model.SUBGRAPHS):
            vector("ends", part, schema.Subgraph.INPUTS, "<i")
            vector("ends", part, schema.Subgraph.OUTPUTS, "<i")
            for tensor in part.tables(schema.Subgraph.TENSORS):
                vector("shape", tensor, schema.Tensor.SHAPE, "<i")
                vector("signature", tensor, schema.Tensor.SHAPE_SIGNATURE, "<i")
                scalar("type", tensor, schema.Tensor.TYPE, "<b")
                scalar("buffer index", tensor, schema.Tensor.BUFFER, "<i")
                quantization = tensor.table(schema.Tensor.QUANTIZATION)
                if quantization is not None:
                    vector("scale", quantization, schema.Quantization.SCALE, "<f")
                    vector("zero point", quantization, schema.Quantization.ZERO_POINT, "<q")
                    scalar("dimension", quantization, schema.Quantization.DIMENSION, "<i")
            for operator in part.tables(schema.Subgraph.OPERATORS):
                scalar("operator", operator, schema.Operator.CODE_INDEX, "<i")
                vector("operator inputs", operator, schema.Operator.INPUTS, "<i")
                vector("operator outputs", operator, schema.Operator.OUTPUTS, "<i")
                scalar("options type", operator, schema.Operator.OPTIONS_TYPE, "<b")
                for field in range(8):
                    scalar("options", operator.table(schema.Operator.OPTIONS), field, "<b")
        return list(groups.values())
