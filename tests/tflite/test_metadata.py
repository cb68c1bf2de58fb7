"""What files say about themselves: written, read back, read from other tools' files, and damaged."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import InputError, ModelError
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing
from edgeq.tflite.metadata import (
    LABELS_MEMBER,
    METADATA_MEMBER,
    ModelMetadata,
    parse_labels,
    read_labels,
    read_metadata,
    read_standard_normalization,
)

FULL = ModelMetadata(
    ("blue", "green", "Rotkehlchen (männlich)"),
    Preprocessing(96, 64, *NORMALIZATIONS["imagenet"], channels="BGR", crop=0.9),
    "logits",
    {"network": "n", "tools": {"a": "1"}, "steps": [1, 2.5, None]},
)


def with_zip(path: Path, members: dict[str, bytes], compression: int = zipfile.ZIP_STORED) -> Path:
    """A file with a zip behind something else, as a .tflite has it."""
    content = io.BytesIO(b"\x1c\0\0\0TFL3" + bytes(range(256)) * 4)
    with zipfile.ZipFile(content, "a", compression) as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    path.write_bytes(content.getvalue())
    return path


@pytest.fixture(scope="module")
def bare_model() -> bytes:
    """A .tflite with an input and nothing else."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    tensor = schema.TensorT()
    tensor.name, tensor.shape, tensor.type = b"image", [1, 4, 4, 3], schema.TensorType.FLOAT32
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [tensor], [0], [0], []
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# Labels


@pytest.mark.parametrize(
    ("text", "labels"),
    [
        ("cat\ndog\n", ("cat", "dog")),
        ("cat\ndog", ("cat", "dog")),
        ("cat\r\ndog\r\n\r\n\n", ("cat", "dog")),
        ("  cat \n\tdog\n", ("cat", "dog")),
        ("tench, Tinca tinca\ngoldfish\n", ("tench, Tinca tinca", "goldfish")),
        ("0  cat\n1  dog\n", ("cat", "dog")),
        ("0: great white shark\n1: hen\n", ("great white shark", "hen")),
        ("0, cat\n1, dog\n", ("cat", "dog")),
        ("0 cat\n1 dog\n2 2 rabbits\n", ("cat", "dog", "2 rabbits")),
        ("1 cat\n2 dog\n", ("1 cat", "2 dog")),  # not counted from 0: may be part of the name
        ("0 cat\n2 dog\n", ("0 cat", "2 dog")),
        ("0\n1\n2\n", ("0", "1", "2")),  # digits are the labels
        ("0 cat\n\n2 dog\n", ("0 cat", "", "2 dog")),
        ("cat\n\ndog\n", ("cat", "", "dog")),  # an empty line is a class without a name
        ("7 up\n", ("7 up",)),
        ("", ()),
        ("\n \n", ()),
    ],
    ids=repr,
)
def test_parse_labels(text, labels) -> None:
    assert parse_labels(text) == labels


@pytest.mark.parametrize(
    "content",
    [b"Gr\xc3\xbcn\nblau\n", b"\xef\xbb\xbfGr\xc3\xbcn\r\nblau\r\n", b"0 Gr\xc3\xbcn\n1 blau"],
    ids=["utf-8", "with byte order mark", "numbered"],
)
def test_read_labels_from_a_file(tmp_path, content) -> None:
    path = tmp_path / "labels.txt"
    path.write_bytes(content)
    assert read_labels(path) == read_labels(str(path)) == ("Grün", "blau")


def test_read_labels_from_the_folders_of_photos(photos, tmp_path) -> None:
    assert read_labels(photos) == ("blue", "green", "red")
    for name in ("rose", "daisy", "Tulip", ".thumbnails"):
        (tmp_path / name).mkdir()
    (tmp_path / "notes.txt").write_text("no class")
    assert read_labels(tmp_path) == ("Tulip", "daisy", "rose")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("missing.txt", None, "No such file"),
        ("empty.txt", b"", "holds no labels"),
        ("blank.txt", b"\n \n", "holds no labels"),
        ("latin-1.txt", "Grün\n".encode("latin-1"), "UTF-8"),
        ("folder", "folder", "no sub-folders"),
    ],
)
def test_read_labels_says_what_is_wrong(tmp_path, name, content, complaint) -> None:
    path = tmp_path / name
    if content == "folder":
        (path / ".hidden").mkdir(parents=True)
        (path / "photo.jpg").touch()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(InputError, match=complaint) as caught:
        read_labels(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_read_labels_of_imagenet(shared) -> None:
    labels = read_labels(shared / "models/coral/imagenet_labels.txt")
    assert len(labels) == 1001
    assert labels[0] == "background"
    assert labels[286] == "Egyptian cat"
    assert labels[1000] == "toilet tissue, toilet paper, bathroom tissue"


# edgeq's own members


@pytest.mark.parametrize(
    "metadata",
    [
        FULL,
        ModelMetadata(),
        ModelMetadata(labels=("0", "1")),
        ModelMetadata(preprocessing=Preprocessing(1, 1, (1 / 3,), (0.1,), "L")),
        ModelMetadata(output="probabilities"),
    ],
    ids=["full", "empty", "labels", "preprocessing", "output"],
)
def test_written_and_read_back(tmp_path, metadata) -> None:
    assert read_metadata(with_zip(tmp_path / "m.tflite", metadata.to_members())) == metadata


def test_members_are_what_other_tools_expect() -> None:
    members = FULL.to_members()
    assert set(members) == {"labels.txt", "edgeq.json"} == {LABELS_MEMBER, METADATA_MEMBER}
    assert members["labels.txt"] == "blue\ngreen\nRotkehlchen (männlich)\n".encode()
    document = json.loads(members["edgeq.json"])
    assert document["format_version"] == 1
    assert document["preprocessing"]["height"] == 96
    assert document["output"] == "logits"
    assert "labels.txt" not in ModelMetadata().to_members()


def test_equal_metadata_gives_equal_bytes() -> None:
    backwards = ModelMetadata(FULL.labels, FULL.preprocessing, FULL.output, dict(reversed(FULL.provenance.items())))
    assert backwards.to_members() == FULL.to_members()


def test_edgeqs_files_say_everything(colour_models) -> None:
    for path in colour_models.glob("*.tflite"):
        metadata = read_metadata(path)
        assert metadata.labels == ("blue", "green", "red")
        assert metadata.preprocessing == Preprocessing(32, 32, crop=1.0)
        assert metadata.output == "probabilities"
        assert metadata.provenance["format"] == path.stem.removeprefix("colours_")
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            assert all(member.compress_type == zipfile.ZIP_STORED for member in archive.infolist())


def test_file_without_metadata(tmp_path) -> None:
    path = tmp_path / "plain.tflite"
    path.write_bytes(b"\x1c\0\0\0TFL3" + bytes(100))
    assert read_metadata(path) == ModelMetadata()


# Other tools' members


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
@pytest.mark.parametrize(
    ("members", "labels"),
    [
        ({"imagenet_labels.txt": b"a\nb\n"}, ("a", "b")),
        ({"vocabulary.txt": b"x\n", "labels.txt": b"a\nb\n"}, ("a", "b")),
        ({"labelmap.txt": b"0 a\n1 b\n"}, ("a", "b")),
        ({"labels.txt": b"\xef\xbb\xbfa\r\nb\r\n"}, ("a", "b")),
        ({"readme.md": b"# no labels"}, ()),
    ],
    ids=["any name", "labels.txt first", "numbered", "byte order mark", "no text"],
)
def test_labels_of_other_tools(tmp_path, members, labels, compression) -> None:
    assert read_metadata(with_zip(tmp_path / "theirs.tflite", members, compression)) == ModelMetadata(labels)


@pytest.mark.parametrize("name", ["mobilenet_v2_1.0_224_quant.tflite", "tf2_mobilenet_v2_1.0_224_ptq.tflite"])
def test_corals_files(shared, name) -> None:
    path = shared / "models/coral" / name
    metadata = read_metadata(path)
    assert metadata == ModelMetadata(read_labels(shared / "models/coral/imagenet_labels.txt"))
    assert read_standard_normalization(path) == ((127.5,), (127.5,))


# Damage


def document(**changes: object) -> dict[str, bytes]:
    """The members of `FULL` with other values in the JSON; the value ``delete`` leaves one out."""
    members = FULL.to_members()
    content = {**json.loads(members[METADATA_MEMBER]), **changes}
    return {**members, METADATA_MEMBER: json.dumps({k: v for k, v in content.items() if v != "delete"}).encode()}


def preprocessing_with(**changes: object) -> dict[str, bytes]:
    assert FULL.preprocessing is not None
    return document(preprocessing={**FULL.preprocessing.to_json(), **changes})


@pytest.mark.parametrize(
    "members",
    [
        {METADATA_MEMBER: b""},
        {METADATA_MEMBER: b"{"},
        {METADATA_MEMBER: b"[]"},
        {METADATA_MEMBER: b"null"},
        {METADATA_MEMBER: b"\xff\xfe"},
        {METADATA_MEMBER: b"[" * 100_000},
        document(format_version="delete"),
        document(format_version="1"),
        document(preprocessing="delete"),
        document(preprocessing="RGB"),
        document(preprocessing=[224, 224]),
        document(output="delete"),
        preprocessing_with(mean=None),
        preprocessing_with(mean=["x"]),
        preprocessing_with(std=[0]),
        preprocessing_with(height=0),
        preprocessing_with(height="96"),
        preprocessing_with(rotation=90),
        {**FULL.to_members(), LABELS_MEMBER: "männlich".encode("latin-1")},
    ],
    ids=[
        *("empty", "cut off", "a list", "null", "no text", "deep"),
        *("no version", "version of text", "no preprocessing", "preprocessing of text", "preprocessing of a list"),
        *("no output", "no mean", "mean of text", "std of 0", "height of 0", "height of text", "unknown field"),
        "labels in latin-1",
    ],
)
def test_damaged_metadata_is_a_model_error(tmp_path, members) -> None:
    path = with_zip(tmp_path / "damaged.tflite", members)
    with pytest.raises(ModelError, match="damaged") as caught:
        read_metadata(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_metadata_of_a_later_edgeq_asks_for_an_update(tmp_path) -> None:
    path = with_zip(tmp_path / "later.tflite", document(format_version=2, preprocessing="something new"))
    with pytest.raises(ModelError, match="update edgeq") as caught:
        read_metadata(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("compression", [zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], ids=["stored", "deflated"])
def test_any_flipped_byte_of_the_zip_gives_metadata_or_a_model_error(tmp_path, compression) -> None:
    """Python's zipfile raises nearly anything on damaged archives: NotImplementedError, EOFError, zlib.error, ..."""
    path = with_zip(tmp_path / "m.tflite", FULL.to_members(), compression)
    whole = path.read_bytes()
    start = whole.index(b"PK\3\4")
    escaped = []
    for place in range(start, len(whole)):
        for flip in (0x01, 0x40, 0xFF):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ flip]) + whole[place + 1 :])
            try:
                read_metadata(path)
            except ModelError:
                continue
            except Exception as error:
                escaped.append((place - start, flip, repr(error)))
    assert not escaped


def test_any_cut_of_the_zip_gives_metadata_or_a_model_error(tmp_path) -> None:
    path = with_zip(tmp_path / "m.tflite", FULL.to_members())
    whole = path.read_bytes()
    for length in range(whole.index(b"PK\3\4"), len(whole)):
        path.write_bytes(whole[:length])
        try:
            found = read_metadata(path)
        except ModelError:
            continue
        assert found == ModelMetadata()  # without its end a zip is no zip; never half of what was written


# The standard's normalization


@pytest.mark.parametrize("normalization", [*NORMALIZATIONS.values(), ((103.939, 116.779, 123.68), (1.0,))], ids=str)
def test_standard_normalization_of_our_own_files(tmp_path, bare_model, normalization) -> None:
    packaging = pytest.importorskip("edgeq.tflite.metadata_writer")
    pytest.importorskip("tensorflow")
    path = tmp_path / "ours.tflite"
    path.write_bytes(packaging.pack(bare_model, "ours", ModelMetadata(("a",), Preprocessing(4, 4, *normalization))))
    found = read_standard_normalization(path)
    assert found is not None
    for values, written in zip(found, normalization, strict=True):
        assert values == tuple(float(np.float32(value)) for value in written)
    assert read_metadata(path).preprocessing == Preprocessing(4, 4, *normalization)  # float64, to the last bit


def test_standard_normalization_of_converted_files(colour_models) -> None:
    for path in colour_models.glob("*.tflite"):
        assert read_standard_normalization(path) == ((127.5,), (127.5,))


def test_standard_metadata_without_a_normalization(tmp_path, bare_model) -> None:
    packaging = pytest.importorskip("edgeq.tflite.metadata_writer")
    pytest.importorskip("tensorflow")
    path = tmp_path / "ours.tflite"
    path.write_bytes(packaging.pack(bare_model, "ours", ModelMetadata(("a", "b"))))
    assert read_standard_normalization(path) is None


def test_no_standard_metadata(tmp_path, bare_model) -> None:
    path = tmp_path / "bare.tflite"
    path.write_bytes(bare_model)
    assert read_standard_normalization(path) is None


def test_damaged_standard_metadata_is_none_or_numbers(tmp_path, bare_model) -> None:
    """The reader walks offsets out of the file: a wrong one must neither hang nor escape."""
    packaging = pytest.importorskip("edgeq.tflite.metadata_writer")
    pytest.importorskip("tensorflow")
    whole = packaging.pack(bare_model, "ours", ModelMetadata((), Preprocessing(4, 4)))
    end = whole.index(b"PK\3\4")
    path = tmp_path / "damaged.tflite"
    rng = np.random.default_rng(0)
    found = set()
    for number in range(2000):
        damaged = bytearray(whole[: rng.integers(end)] if number % 4 == 0 else whole[:end])
        for place in rng.integers(0, len(damaged), 2) if damaged else ():
            damaged[place] = rng.integers(256)
        path.write_bytes(damaged)
        found.add(read_standard_normalization(path))
    assert {None, ((127.5,), (127.5,))} <= found
