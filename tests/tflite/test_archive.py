"""The model and the zip behind it: taken apart and put together again, and damaged."""

from __future__ import annotations

import io
import zipfile
from pathlib import Path

import pytest
from conftest import IntegerPair
from graphs import assert_same_data, with_weights_outside

from edgeq.errors import ModelError
from edgeq.tflite.archive import join, open_archive, split
from edgeq.tflite.graph import Graph
from edgeq.tflite.metadata import ModelMetadata, read_metadata
from edgeq.tflite.metadata_writer import repack

MODEL = b"\x1c\0\0\0TFL3" + bytes(range(256)) * 4
MEMBERS = {"labels.txt": "grün\n".encode(), "edgeq.json": b"{}", "empty": b""}


def test_split_is_the_inverse_of_join() -> None:
    whole = join(MODEL, MEMBERS)
    assert whole.startswith(MODEL)
    assert split(whole, "m") == (MODEL, MEMBERS)
    assert list(split(whole, "m")[1]) == sorted(MEMBERS)
    assert whole == join(MODEL, dict(reversed(MEMBERS.items())))


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize("relative", [False, True], ids=["offsets-of-the-file", "offsets-of-the-zip"])
def test_archives_of_other_tools(compression: int, relative: bool) -> None:
    """Some tools append a finished zip, whose offsets count from its own start."""
    content = io.BytesIO(b"" if relative else MODEL)
    with zipfile.ZipFile(content, "a", compression) as archive:
        archive.comment = b"a comment"
        for name, data in MEMBERS.items():
            archive.writestr(name, data)
    whole = MODEL + content.getvalue() if relative else content.getvalue()
    assert split(whole, "m") == (MODEL, MEMBERS)


@pytest.mark.parametrize("content", [b"", MODEL, MODEL + b"PK\5\6", b"PK\3\4" + MODEL], ids=len)
def test_no_archive(content: bytes) -> None:
    assert split(content, "m") == (content, {})
    assert open_archive(io.BytesIO(content)) is None


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"])
def test_of_published_files(name: str, shared: Path) -> None:
    whole = (shared / "models" / "coral" / name).read_bytes()
    model, members = split(whole, name)
    assert any(member.endswith(".txt") for member in members)
    assert model == whole[: len(model)]
    assert whole[len(model) : len(model) + 4] == b"PK\3\4"


def test_damage_is_a_model_error_or_leaves_the_model() -> None:
    whole = join(MODEL, MEMBERS)
    outcomes = {"error": 0, "read": 0}
    for position in range(len(MODEL), len(whole)):
        damaged = whole[:position] + bytes([whole[position] ^ 0x41]) + whole[position + 1 :]
        try:
            model, _ = split(damaged, "m.tflite")
        except ModelError:
            outcomes["error"] += 1
        else:
            assert model.startswith(MODEL)
            outcomes["read"] += 1
    assert min(outcomes.values()) > 0


def test_what_stands_between_flatbuffer_and_archive_stays_where_it_is(blocks: IntegerPair, tmp_path: Path) -> None:
    """Buffers outside the flatbuffer: their offsets count from the start of the file."""
    outside = with_weights_outside(blocks.int8.read_bytes())
    whole = join(outside, {"edgeq.json": b"{}", "of-another-tool.bin": b"kept"})
    path = tmp_path / "m.tflite"
    for provenance in ({"refinement": None}, {"refinement": {"long": "x" * 3000}}):
        whole = repack(whole, ModelMetadata(("a",), provenance=provenance))
        path.write_bytes(whole)
        model, members = split(whole, path)
        assert model == outside
        assert members["of-another-tool.bin"] == b"kept"
        assert read_metadata(path).provenance == provenance
        for tensor, same in zip(Graph(whole, path).tensors, Graph(outside, "m").tensors, strict=True):
            assert_same_data(tensor, same)
