"""Metadata inside the files, as other tools read it: MediaPipe, and plain zip and FlatBuffer readers."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import COLOURS, Finished, colour_picture

from edgeq.calibration import choose_images
from edgeq.conversion import FORMATS, convert_network
from edgeq.networks import Network, open_network
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing
from edgeq.quiet import quiet
from edgeq.runtime import Model
from edgeq.tflite import flatbuffer
from edgeq.tflite.metadata import ModelMetadata, read_metadata, read_standard_normalization
from edgeq.tflite.metadata_writer import pack

pytest.importorskip("tensorflow")

COLOURS_INPUT = Preprocessing(32, 32, crop=1.0)
EVERYTHING = ModelMetadata(
    ("blue", "grün", "red"), COLOURS_INPUT, "probabilities", {"network": "colours", "calibration": {"count": 3}}
)


@pytest.fixture(scope="module")
def bare_model(colour_network: Path) -> bytes:
    """The colour network as the converter gives it, without metadata."""
    from edgeq.conversion.keras import freeze

    with quiet():
        frozen = freeze(open_network(colour_network))
        return frozen.to_tflite(FORMATS["fp32"], None, COLOURS_INPUT, lambda *_: None)


@pytest.fixture(scope="module")
def uint8_model(colour_network: Path, photos: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """colours_int8.tflite with uint8 input and output."""
    out = tmp_path_factory.mktemp("uint8")
    chosen = choose_images(photos, COLOURS_INPUT, count=12)
    network = open_network(colour_network)
    labels = tuple(COLOURS)
    convert_network(network, COLOURS_INPUT, ["int8"], out, calibration=chosen, io="uint8", labels=labels)
    return out / "colours_int8.tflite"


def buffers(content: bytes) -> list[tuple[int, int]]:
    """Position and length of the data of each buffer of a model (field 4 of the root, field 0 of each)."""
    found = []
    for buffer in flatbuffer.root(content).tables(4):
        if buffer.position_of(0) is not None:
            found.append(buffer.vector(0))
    return found


class TestFlatbuffer:
    @pytest.mark.parametrize("length", [0, 1, 7, 16, 33])
    def test_buffers_are_aligned_to_16_bytes(self, length: int, bare_model: bytes) -> None:
        """Kernels read the weights in place with vector instructions."""
        packed = pack(bare_model, "n" * length, EVERYTHING)
        places = buffers(packed)
        assert len(places) >= 5  # weights, biases and the metadata
        assert {start % 16 for start, _ in places} == {0}

    def test_weights_are_untouched(self, bare_model: bytes) -> None:
        packed = pack(bare_model, "colours", EVERYTHING)
        before = [bare_model[start : start + length] for start, length in buffers(bare_model)]
        after = [packed[start : start + length] for start, length in buffers(packed)]
        assert after[: len(before)] == before
        assert len(after) == len(before) + 1
        assert after[-1][4:8] == b"M001"

    def test_the_network_computes_the_same(self, bare_model: bytes, tmp_path: Path) -> None:
        interpreter_of = pytest.importorskip("ai_edge_litert.interpreter").Interpreter
        outputs = []
        for content in (bare_model, pack(bare_model, "colours", EVERYTHING)):
            interpreter = interpreter_of(model_content=content)
            interpreter.allocate_tensors()
            image = np.random.default_rng(1).uniform(-1, 1, (1, 32, 32, 3)).astype(np.float32)
            interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
            interpreter.invoke()
            outputs.append(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
        np.testing.assert_array_equal(*outputs)

    def test_same_arguments_same_bytes(self, bare_model: bytes) -> None:
        assert pack(bare_model, "colours", EVERYTHING) == pack(bare_model, "colours", EVERYTHING)

    @pytest.mark.parametrize(
        "metadata",
        [
            pytest.param(EVERYTHING, id="everything"),
            pytest.param(ModelMetadata(), id="nothing"),
            pytest.param(ModelMetadata(("a", "b", "c")), id="only-labels"),
            pytest.param(
                ModelMetadata(
                    (), Preprocessing(20, 30, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), channels="BGR", crop=0.5), "logits"
                ),
                id="a-mean-a-channel",
            ),
        ],
    )
    def test_what_is_packed_is_read(self, metadata: ModelMetadata, bare_model: bytes, tmp_path: Path) -> None:
        path = tmp_path / "m.tflite"
        path.write_bytes(pack(bare_model, "m", metadata))
        assert read_metadata(path) == metadata
        stated = metadata.preprocessing
        assert read_standard_normalization(path) == (stated and (stated.mean, stated.std))


class TestZip:
    def test_members_lie_uncompressed_with_a_fixed_date(self, bare_model: bytes, tmp_path: Path) -> None:
        path = tmp_path / "m.tflite"
        path.write_bytes(pack(bare_model, "m", EVERYTHING))
        with zipfile.ZipFile(path) as archive:
            assert archive.testzip() is None
            members = {info.filename: info for info in archive.infolist()}
            assert list(members) == ["edgeq.json", "labels.txt"]
            for info in members.values():
                assert info.compress_type == zipfile.ZIP_STORED
                assert info.date_time == (1980, 1, 1, 0, 0, 0)
                assert info.external_attr >> 16 == 0o644
            assert archive.read("labels.txt").decode() == "blue\ngrün\nred\n"
            document = json.loads(archive.read("edgeq.json"))
        assert document["provenance"] == EVERYTHING.provenance
        assert document["preprocessing"]["height"] == 32

    @pytest.mark.parametrize("form", FORMATS)
    def test_every_format_has_both_members(self, form: str, colour_models: Path) -> None:
        with zipfile.ZipFile(colour_models / f"colours_{form}.tflite") as archive:
            assert archive.namelist() == ["edgeq.json", "labels.txt"]

    def test_unzip_reads_it(self, colour_models: Path) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "zipfile", "-l", colour_models / "colours_int8.tflite"],
            capture_output=True,
            text=True,
            check=True,
        )
        assert "labels.txt" in done.stdout


@pytest.fixture(scope="module")
def schemas() -> tuple[Any, Any]:
    """MediaPipe's generated classes of the metadata and of the model itself."""
    metadata = pytest.importorskip("mediapipe.tasks.metadata.metadata_schema_py_generated")
    model = pytest.importorskip("mediapipe.tasks.metadata.schema_py_generated")
    return metadata, model


class TestMediapipeMetadata:
    """Through the classes that MediaPipe's maintainers generated from the schema."""

    def read(self, content: bytes, schemas: tuple[Any, Any]) -> Any:
        """The ModelMetadata table of a .tflite file, as an object."""
        generated, model_schema = schemas
        model = model_schema.Model.GetRootAs(content, 0)
        entries = {model.Metadata(i).Name(): model.Metadata(i).Buffer() for i in range(model.MetadataLength())}
        buffer = model.Buffers(entries[b"TFLITE_METADATA"]).DataAsNumpy().tobytes()
        assert generated.ModelMetadata.ModelMetadataBufferHasIdentifier(buffer, 0)
        return generated.ModelMetadataT.InitFromObj(generated.ModelMetadata.GetRootAs(buffer, 0))

    @pytest.mark.parametrize("form", FORMATS)
    def test_of_every_format_names_the_labels(self, form: str, schemas: tuple[Any, Any], colour_models: Path) -> None:
        metadata = self.read((colour_models / f"colours_{form}.tflite").read_bytes(), schemas)
        assert metadata.name == f"colours_{form}".encode()
        (subgraph,) = metadata.subgraphMetadata
        (scores,) = subgraph.outputTensorMetadata
        (file,) = scores.associatedFiles
        assert (file.name, file.type) == (b"labels.txt", schemas[0].AssociatedFileType.TENSOR_AXIS_LABELS)

    @pytest.mark.parametrize(
        ("preprocessing", "color_space"),
        [
            pytest.param(Preprocessing(20, 30), "RGB", id="rgb"),
            pytest.param(Preprocessing(30, 20, *NORMALIZATIONS["imagenet"]), "RGB", id="imagenet"),
            pytest.param(Preprocessing(96, 96, *NORMALIZATIONS["0..1"], channels="L"), "GRAYSCALE", id="grey"),
            pytest.param(Preprocessing(96, 96, channels="BGR"), "UNKNOWN", id="bgr"),
        ],
    )
    def test_agrees_on_size_colours_and_normalization(
        self, preprocessing: Preprocessing, color_space: str, schemas: tuple[Any, Any], bare_model: bytes
    ) -> None:
        generated, _ = schemas
        metadata = self.read(pack(bare_model, "m", ModelMetadata((), preprocessing)), schemas)
        (image,) = metadata.subgraphMetadata[0].inputTensorMetadata
        assert image.content.contentPropertiesType == generated.ContentProperties.ImageProperties
        properties = image.content.contentProperties
        assert properties.colorSpace == getattr(generated.ColorSpaceType, color_space)
        size = properties.defaultSize
        assert (size.width, size.height) == (preprocessing.width, preprocessing.height)
        (unit,) = image.processUnits
        assert unit.optionsType == generated.ProcessUnitOptions.NormalizationOptions
        assert list(unit.options.mean) == pytest.approx(preprocessing.mean)
        assert list(unit.options.std) == pytest.approx(preprocessing.std)


CLASSIFY = """
import json, sys
import mediapipe
from mediapipe.tasks.python import BaseOptions, vision
models, images = json.loads(sys.argv[1])
for model in models:
    options = vision.ImageClassifierOptions(BaseOptions(model_asset_path=model), max_results=3)
    with vision.ImageClassifier.create_from_options(options) as classifier:
        for image in images:
            categories = classifier.classify(mediapipe.Image.create_from_file(image)).classifications[0].categories
            print("FOUND", json.dumps([[c.category_name, c.index, c.score] for c in categories]))
"""


def need_mediapipe() -> None:
    if importlib.util.find_spec("mediapipe") is None:
        pytest.skip("no mediapipe (pip install 'edgeq[dev]')")


def mediapipe_names(models: list[Path], images: list[Path]) -> list[list[list[tuple[str, int, float]]]]:
    """MediaPipe's best classes by model and image, from a process of its own as it brings its own TFLite."""
    need_mediapipe()
    arguments = json.dumps([[*map(str, models)], [*map(str, images)]])
    done = subprocess.run(
        [sys.executable, "-c", CLASSIFY, arguments], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.returncode == 0, done.stderr
    lines = [line.removeprefix("FOUND ") for line in done.stdout.splitlines() if line.startswith("FOUND ")]
    found = [[tuple(category) for category in json.loads(line)] for line in lines]
    return [found[i : i + len(images)] for i in range(0, len(found), len(images))]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """A picture of each of `COLOURS`, of the network's size, so that MediaPipe resamples nothing."""
    folder = tmp_path_factory.mktemp("pictures")
    for i, name in enumerate(COLOURS):
        colour_picture(name, seed=40 + i, side=32).save(folder / f"{name}.png")
    return [folder / f"{name}.png" for name in COLOURS]


@pytest.mark.accept
def test_mediapipe_names_what_we_name_with_our_probabilities(
    colour_models: Path, uint8_model: Path, pictures: list[Path]
) -> None:
    models = {colour_models / "colours_fp32.tflite": 1e-3, uint8_model: 1.1 / 256}
    for (path, tolerance), found in zip(models.items(), mediapipe_names([*models], pictures), strict=True):
        assert [categories[0][0] for categories in found] == list(COLOURS)
        model = Model(path)
        for picture, categories in zip(pictures, found, strict=True):
            ours = model.classify(picture)
            assert {name for name, _, _ in categories} == set(COLOURS)
            for name, index, score in categories:
                assert model.labels[index] == name
                assert score == pytest.approx(ours[index], abs=tolerance)


@pytest.mark.accept
def test_mediapipe_reads_a_network_with_one_sigmoid_and_two_labels(pictures: list[Path], tmp_path: Path) -> None:
    """It takes the labels of a tensor as one per value, and would fail at the second."""
    import tensorflow as tf

    kernel = tf.constant([[1.0], [0.5], [-1.0]])
    network = Network("net", 32, 32, 3, 1, lambda x: tf.sigmoid(tf.reduce_mean(x, axis=[1, 2]) @ kernel), None)
    (converted,) = convert_network(network, COLOURS_INPUT, [], tmp_path, labels=("no", "yes"))
    model = Model(converted.path)
    assert model.labels == ("no", "yes")
    (found,) = mediapipe_names([converted.path], pictures)
    for ((_, _, score),), picture in zip(found, pictures, strict=True):
        assert score == pytest.approx(model.classify(picture)[1], abs=1e-3)


@pytest.mark.accept
def test_mediapipe_names_a_real_parrot(shared: Path, tmp_path: Path, edgeq: Any) -> None:
    need_mediapipe()
    done: Finished = edgeq(
        "convert",
        *("--res", 160, "--int8", "--io", "uint8", "--calib", shared / "data" / "imagenet_samples"),
        *("--calib-count", 10, "--no-refine", "--out", tmp_path),
        env={"KERAS_HOME": str(shared / "weights" / "keras_home")},
    )
    assert (done.code, done.err) == (0, "")
    models = [tmp_path / f"mobilenet_v2_1.0_160_{form}.tflite" for form in ("int8", "fp32")]
    for ((best, *_),) in mediapipe_names(models, [shared / "models" / "coral" / "parrot.jpg"]):
        assert best[:2] == ("macaw", 88)
        assert best[2] > 0.3
