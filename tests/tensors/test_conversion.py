"""Converting, refining and comparing the four small networks."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.errors import InputError, ModelError
from edgeq.tflite.metadata import read_metadata
from edgeq.tflite.task import read_task
from tensors.conftest import Pair
from tensors.networks import BUILDERS, FloatModel

NAMES = list(BUILDERS)
Shapes = dict[str, tuple[int, ...]]
SHAPES: dict[str, tuple[Shapes, Shapes]] = {
    "autoencoder": ({"features": (1, 640)}, {"reconstruction": (1, 640)}),
    "keyword_spotter": ({"spectrogram": (1, 49, 10, 1)}, {"scores": (1, 12)}),
    "two_by_two": ({"picture": (1, 16, 16, 3), "state": (1, 6)}, {"mask": (1, 16, 16, 1), "angles": (1, 2)}),
    "detector": ({"image": (1, 32, 32, 3)}, {"boxes": (1, 64, 4), "scores": (1, 64, 3)}),
}


def read(path: Path, number: int) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name][number] for name in arrays.files}


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_computes_what_keras_computes(
    float_models: dict[str, FloatModel], pairs: dict[str, Pair], name: str
) -> None:
    model = edgeq.TensorModel(pairs[name].fp32)
    for number in range(3):
        found = model.answer(read(pairs[name].data, number))
        for output, values in read(float_models[name].expected, number).items():
            np.testing.assert_allclose(found[output][0], values, atol=1e-4)


@pytest.mark.sampled(1)
@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("kind", ["keras", "saved_model"])
def test_keras_sources(
    float_models: dict[str, FloatModel], pairs: dict[str, Pair], name: str, kind: str, tmp_path: Path
) -> None:
    """The file has the names of the network's inputs and outputs, and computes what the .tflite source computes."""
    source = getattr(float_models[name], kind)
    made = edgeq.convert(source, "fp16", tmp_path, task="tensors").models["fp32"].path
    assert made.name == f"{name if kind == 'keras' else 'saved_model'}_fp32.tflite"
    assert read_metadata(made).provenance["parent"]["file"] == source.name
    sample = read(pairs[name].data, 0)
    found, expected = (edgeq.TensorModel(path).answer(sample) for path in (made, pairs[name].fp32))
    assert found.keys() == expected.keys() == SHAPES[name][1].keys()
    for output, values in expected.items():
        np.testing.assert_allclose(found[output], values, atol=1e-5)


def test_a_keras_source_to_int8(float_models: dict[str, FloatModel], tmp_path: Path) -> None:
    """Samples as calibration data say that it is no classifier."""
    model = float_models["two_by_two"]
    made = edgeq.convert(model.keras, "int8", tmp_path, calibration=model.calibration)
    assert made.models["int8"].refinement is not None
    assert {spec.name for spec in edgeq.TensorModel(made.models["int8"].path).outputs} == {"mask", "angles"}


def test_a_keras_source_of_open_size(tmp_path: Path) -> None:
    keras = pytest.importorskip("keras")
    source = keras.Input((None, 3), name="sequence")
    keras.Model(source, keras.layers.Dense(2)(source)).save(tmp_path / "open.keras")
    with pytest.raises(
        ModelError, match=r"open\.keras: leaves the size of its input sequence open; save the model with"
    ):
        edgeq.convert(tmp_path / "open.keras", "fp16", tmp_path / "out", task="tensors")


@pytest.mark.parametrize("name", NAMES)
def test_the_int8_file_has_integer_inputs_and_outputs_of_the_same_names(pairs: dict[str, Pair], name: str) -> None:
    for path, dtype in ((pairs[name].fp32, "float32"), (pairs[name].int8, "int8")):
        model = edgeq.TensorModel(path)
        assert {spec.name: spec.shape for spec in model.inputs} == SHAPES[name][0]
        assert {spec.name: spec.shape for spec in model.outputs} == SHAPES[name][1]
        assert {spec.quantization.dtype for spec in (*model.inputs, *model.outputs)} == {dtype}
    metadata = read_metadata(pairs[name].int8)
    assert (metadata.task, metadata.preprocessing, metadata.labels, metadata.output) == ("tensors", None, (), None)
    assert metadata.provenance["calibration"]["count"] == 40
    assert metadata.provenance["refinement"]["error_before"] > 0
    assert read_task(pairs[name].int8) == "tensors"


@pytest.mark.parametrize("name", NAMES)
def test_the_input_covers_the_calibration_data(
    float_models: dict[str, FloatModel], pairs: dict[str, Pair], name: str
) -> None:
    samples = [read_single(path) for path in sorted(float_models[name].calibration.glob("*.npz"))]
    for spec in edgeq.TensorModel(pairs[name].int8).inputs:
        values = np.stack([sample[spec.name] for sample in samples])
        low, high = spec.quantization.real_range
        step = spec.quantization.scale[0]
        assert low == pytest.approx(min(values.min(), 0), abs=step)
        assert high == pytest.approx(max(values.max(), 0), abs=step)


def read_single(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as arrays:
        return {name: arrays[name] for name in arrays.files}


@pytest.mark.parametrize("name", NAMES)
def test_the_comparison_agrees_with_numpy(pairs: dict[str, Pair], name: str) -> None:
    pair = pairs[name]
    result = edgeq.compare_tensors(pair.fp32, pair.int8, pair.data, layers=True, layer_samples=4)
    assert result.samples == 20
    models = edgeq.TensorModel(pair.fp32), edgeq.TensorModel(pair.int8)
    answers = [[model.answer(read(pair.data, n)) for n in range(20)] for model in models]
    assert [drift.name for drift in result.outputs] == [spec.name for spec in models[0].outputs]
    for position, drift in enumerate(result.outputs):
        x, y = (np.stack([answer[drift.name].ravel() for answer in side]) for side in answers)
        noise = y - x
        assert drift.sqnr_db == pytest.approx(10 * math.log10((x**2).sum() / (noise**2).sum()))
        assert drift.cosine == pytest.approx((x * y).sum() / np.linalg.norm(x) / np.linalg.norm(y))
        assert drift.mean_difference == pytest.approx(np.abs(noise).mean())
        assert drift.max_difference == pytest.approx(np.abs(noise).max())
        assert drift.sqnr_db is not None
        assert drift.sqnr_db > 12
        by_number = {int(sample.file.rpartition("[")[2][:-1]): sample for sample in result.worst}
        for number in range(20):
            assert by_number[number].max_difference[position] == pytest.approx(np.abs(noise[number]).max())
    assert [sample.error for sample in result.worst] == sorted((s.error for s in result.worst), reverse=True)
    assert result.layers is not None
    inputs = [layer for layer in result.layers if layer.operator == "INPUT"]
    assert len(inputs) == len(models[0].inputs)
    assert not result.faults
    assert result.calibration_overlap == 0


def test_a_comparison_with_itself_finds_no_difference(pairs: dict[str, Pair]) -> None:
    pair = pairs["two_by_two"]
    result = edgeq.compare_tensors(pair.int8, pair.int8, pair.data)
    assert [(d.sqnr_db, d.max_difference, d.error) for d in result.outputs] == [(None, 0, 0)] * 2
    assert result.missed_limits(60) == []


def test_limits_name_each_output_that_misses(pairs: dict[str, Pair]) -> None:
    pair = pairs["two_by_two"]
    result = edgeq.compare_tensors(pair.fp32, pair.int8, pair.data)
    lowest = result.sqnr_db
    assert lowest is not None
    assert result.missed_limits(lowest - 0.1) == []
    assert len(result.missed_limits(200)) == 2


def test_calibration_samples_are_recognized(float_models: dict[str, FloatModel], pairs: dict[str, Pair]) -> None:
    result = edgeq.compare_tensors(
        pairs["autoencoder"].fp32, pairs["autoencoder"].int8, float_models["autoencoder"].calibration
    )
    assert result.calibration_overlap == 40
    assert any("used for calibration" in note for note in result.notes)


@pytest.mark.parametrize("io", ["uint8", "float32"])
def test_types_of_inputs_and_outputs(float_models: dict[str, FloatModel], tmp_path: Path, io: str) -> None:
    model = float_models["two_by_two"]
    made = edgeq.convert(model.path, "int8", tmp_path, calibration=model.calibration, io=io, refine=False)
    found = edgeq.TensorModel(made.models["int8"].path)
    assert {spec.quantization.dtype for spec in (*found.inputs, *found.outputs)} == {io}
    result = edgeq.compare_tensors(made.models["fp32"].path, found.path, model.data, layers=True, layer_samples=2)
    assert result.layers is not None


def test_other_formats(float_models: dict[str, FloatModel], tmp_path: Path) -> None:
    model = float_models["detector"]
    made = edgeq.convert(model.path, ["fp16", "dynamic", "int16x8"], tmp_path, calibration=model.calibration)
    assert list(made.models) == ["fp32", "fp16", "dynamic", "int16x8"]
    for name in ("fp16", "dynamic", "int16x8"):
        result = edgeq.compare_tensors(made.models["fp32"].path, made.models[name].path, model.data)
        assert result.sqnr_db is not None
        assert result.sqnr_db > 20


def test_refining_lowers_the_error(float_models: dict[str, FloatModel], tmp_path: Path) -> None:
    model = float_models["two_by_two"]
    made = edgeq.convert(model.path, "int8", tmp_path, calibration=model.calibration, refine=False)
    paths = made.models["fp32"].path, made.models["int8"].path
    refined = edgeq.refine(*paths, calibration=model.calibration)
    assert refined.refinement.measure == "error"
    assert refined.refinement.kept
    assert refined.to_json()["error_after"] < refined.to_json()["error_before"]
    assert read_metadata(refined.path).provenance["refinement"]["images"] == 32


def test_the_same_arguments_give_the_same_files(
    float_models: dict[str, FloatModel], pairs: dict[str, Pair], tmp_path: Path
) -> None:
    model = float_models["keyword_spotter"]
    made = edgeq.convert(model.path, "int8", tmp_path, calibration=model.calibration)
    assert made.models["int8"].path.read_bytes() == pairs["keyword_spotter"].int8.read_bytes()


def test_images_for_a_detector(float_models: dict[str, FloatModel], photos: Path, tmp_path: Path) -> None:
    model = float_models["detector"]
    made = edgeq.convert(model.path, "int8", tmp_path, calibration=photos, count=12, normalize="-1..1")
    spec = read_metadata(made.models["int8"].path).preprocessing
    assert spec is not None
    assert (spec.height, spec.width, spec.mean) == (32, 32, (127.5,))
    result = edgeq.compare_tensors(made.models["fp32"].path, made.models["int8"].path, photos)
    assert result.samples == 36


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({}, "needs calibration data; give --calib"),
        ({"calibration": "nothing.npz"}, "cannot be read"),
        ({"calibration": "x", "labels": ("a", "b")}, "has no labels"),
        ({"calibration": "x", "logits": True}, "no logits"),
        ({"calibration": "x", "normalize": "0..1"}, "takes no images"),
        ({"calibration": "x", "keep_float": ["auto"]}, "only for image classifiers"),
        ({"calibration": "x", "task": "poetry"}, "must be one of classification, tensors"),
    ],
)
def test_arguments_that_do_not_fit(
    float_models: dict[str, FloatModel], tmp_path: Path, arguments: dict[str, object], message: str
) -> None:
    model = float_models["autoencoder"]
    if arguments.get("calibration") == "x":
        arguments = arguments | {"calibration": model.calibration}
    with pytest.raises(InputError, match=message):
        edgeq.convert(model.path, "int8", tmp_path / "out", **arguments)  # type: ignore[arg-type]
    assert not (tmp_path / "out").exists()


def test_a_published_keyword_spotter(shared: Path, pairs: dict[str, Pair]) -> None:
    """MLPerf Tiny's: without edgeq's metadata, of one image-like input and 12 classes."""
    path = shared / "models" / "mlcommons_tiny" / "kws_ref_model.tflite"
    assert read_task(path) == "classification"  # by its shapes alone; data in .npz files say otherwise
    answers = list(edgeq.infer_tensors(pairs["keyword_spotter"].data, path))
    assert len(answers) == 20
    for answer in answers:
        (scores,) = answer.outputs.values()
        assert scores.sum() == pytest.approx(1, abs=0.05)
    inspection = edgeq.inspect(path)
    assert inspection.full_integer
    assert [(port.name, port.shape) for port in inspection.inputs] == [("input_1", (-1, 49, 10, 1))]
