"""`TensorModel`: names, tensors, answers and errors."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgeq.errors import InputError, ModelError
from edgeq.runtime import Model, TensorModel, open_model
from edgeq.tflite.task import image_layout, read_task
from tensors.conftest import Pair


def sample(**changes: np.ndarray) -> dict[str, np.ndarray]:
    return {"picture": np.full((16, 16, 3), 0.5), "state": np.zeros(6)} | changes


def test_by_name_and_in_order(pairs: dict[str, Pair]) -> None:
    model = TensorModel(pairs["two_by_two"].int8)
    by_name = model.tensors(sample())
    in_order = model.tensors([sample()[spec.name] for spec in model.inputs])
    for one, other, spec in zip(by_name, in_order, model.inputs, strict=True):
        np.testing.assert_array_equal(one, other)
        assert (one.shape, one.dtype) == (spec.shape, np.int8)
    answer = model.answer(sample())
    assert answer["mask"].shape == (1, 16, 16, 1)
    assert answer["angles"].dtype == np.float64


def test_inputs_are_quantized_as_the_file_says(pairs: dict[str, Pair]) -> None:
    model = TensorModel(pairs["two_by_two"].int8)
    values = np.random.default_rng(0).normal(0, 2, 6)
    tensors = dict(zip([spec.name for spec in model.inputs], model.tensors(sample(state=values)), strict=True))
    spec = next(spec for spec in model.inputs if spec.name == "state")
    back = spec.quantization.dequantize(tensors["state"])
    low, high = spec.quantization.real_range
    np.testing.assert_allclose(back[0], values.clip(low, high), atol=0.51 * spec.quantization.scale[0])


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"picture": np.zeros((16, 16, 3))}, "has the inputs .*, not picture"),
        (sample(state=np.zeros(7)), r"its input state has shape \(1, 6\), not \(7,\)"),
        ([np.zeros(6)], "has 2 inputs, but 1 arrays were given"),
    ],
)
def test_arrays_that_do_not_fit(pairs: dict[str, Pair], arrays: object, message: str) -> None:
    with pytest.raises(InputError, match=message):
        TensorModel(pairs["two_by_two"].int8).tensors(arrays)  # type: ignore[arg-type]


def test_tensors_of_a_wrong_type_do_not_reach_the_runtime(pairs: dict[str, Pair]) -> None:
    model = TensorModel(pairs["autoencoder"].int8)
    with pytest.raises(ModelError, match="takes int8"):
        model.invoke([np.zeros((1, 640), np.float32)])


def test_the_error_is_relative_and_a_mean_over_outputs(pairs: dict[str, Pair]) -> None:
    model = TensorModel(pairs["autoencoder"].int8)
    expected = [{"a": np.array([3.0, 0]), "b": np.array([1.0])}, {"a": np.array([0, 4.0]), "b": np.array([0.0])}]
    found = [{"a": np.array([3.0, 1]), "b": np.array([1.0])}, {"a": np.array([0, 4.0]), "b": np.array([0.0])}]
    assert model.error(expected, found) == pytest.approx((1 / 5 + 0) / 2)
    assert model.error(expected, expected) == 0


def test_opening_chooses_the_class(pairs: dict[str, Pair], colour_models: Path) -> None:
    assert isinstance(open_model(pairs["detector"].int8), TensorModel)
    assert isinstance(open_model(pairs["keyword_spotter"].int8), TensorModel)  # its metadata say so
    assert isinstance(open_model(colour_models / "colours_int8.tflite"), Model)
    assert isinstance(open_model(colour_models / "colours_int8.tflite", task="tensors"), TensorModel)
    with pytest.raises(ModelError, match="image classifier"):
        open_model(pairs["autoencoder"].int8, task="classification")


def test_a_classifier_gives_the_same_numbers_as_tensors(colour_models: Path) -> None:
    path = colour_models / "colours_int8.tflite"
    classifier, plain = Model(path), TensorModel(path)
    pixels = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    (answer,) = plain.answer([classifier.preprocessing.normalize(pixels)]).values()
    np.testing.assert_allclose(answer[0], classifier.probabilities(classifier.invoke(classifier.tensor(pixels))))
    assert plain.sha256 == classifier.sha256


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such model file"):
        read_task(tmp_path / "missing.tflite")
    (tmp_path / "bad.tflite").write_bytes(b"\x18\0\0\0TFL3" + bytes(100))
    with pytest.raises(ModelError):
        read_task(tmp_path / "bad.tflite")


def test_layouts_of_images() -> None:
    assert image_layout((1, 8, 8, 3)) == "NHWC"
    assert image_layout((1, 1, 8, 8)) == "NCHW"
    assert [image_layout(shape) for shape in ((1, 640), (2, 8, 8, 3), (1, 8, 8, 5), ())] == [None] * 4
