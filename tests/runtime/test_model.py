"""One classifier over every runtime: tiny models of known answers, converted ones, published ones, and broken ones."""

from __future__ import annotations

import importlib.util
import io
import itertools
import json
import os
import subprocess
import sys
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import InputError, ModelError, UnknownNormalizationError
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing
from edgeq.quantization import Quantization
from edgeq.runtime import KERNELS, RUNTIMES, Model
from edgeq.tflite.metadata import ModelMetadata, Overrides

ROOT = Path(__file__).resolve().parent.parent.parent
COLOURS = ("blue", "green", "red")
FORMS = ("fp32", "int8", "fp16", "dynamic", "int16x8")
IO_FORMS = ("int8 of uint8", "int8 of float32")
PIXELS = Overrides(normalization=NORMALIZATIONS["0..255"])
"""For models whose input is pixel values, and that do not say so."""

# Tiny models, built with TFLite's generated schema classes


def tensor(
    shape: tuple[int, ...], kind: str = "FLOAT32", scale: tuple[float, ...] = (), zero_point: tuple[int, ...] = ()
) -> dict[str, Any]:
    return {"shape": list(shape), "kind": kind, "scale": list(scale), "zero_point": list(zero_point)}


def constant(*values: int) -> dict[str, Any]:
    """An int32 tensor of known content: axes, or a shape."""
    return {**tensor((len(values),), "INT32"), "data": np.array(values, np.int32).view(np.uint8)}


def tiny_model(
    tensors: list[dict[str, Any]],
    steps: list[tuple[str, list[int], list[int]]],
    inputs: tuple[int, ...] = (0,),
    outputs: tuple[int, ...] = (-1,),
) -> bytes:
    """A .tflite of a few operators.

    Args:
        tensors: made by `tensor` and `constant`.
        steps: operator, numbers of its input tensors, of its output tensors.
        inputs: numbers of the model's input tensors.
        outputs: of its output tensors; -1 is the last one.
    """
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    graph, model = schema.SubGraphT(), schema.ModelT()
    graph.tensors, graph.operators = [], []
    model.version, model.subgraphs, model.operatorCodes, model.buffers = 3, [graph], [], [schema.BufferT()]
    for number, described in enumerate(tensors):
        made = schema.TensorT()
        made.name, made.shape = f"tensor{number}".encode(), described["shape"]
        made.type = getattr(schema.TensorType, described["kind"])
        if described.get("scale"):
            made.quantization = schema.QuantizationParametersT()
            made.quantization.scale, made.quantization.zeroPoint = described["scale"], described["zero_point"]
            made.quantization.quantizedDimension = 3 if len(described["scale"]) > 1 else 0
        if "data" in described:
            buffer = schema.BufferT()
            buffer.data = described["data"]
            made.buffer = len(model.buffers)
            model.buffers.append(buffer)
        graph.tensors.append(made)
    for number, (name, operands, results) in enumerate(steps):
        code, operator = schema.OperatorCodeT(), schema.OperatorT()
        code.builtinCode = code.deprecatedBuiltinCode = getattr(schema.BuiltinOperator, name)
        code.version = 1
        operator.opcodeIndex, operator.inputs, operator.outputs = number, operands, results
        if name == "SOFTMAX":
            operator.builtinOptionsType = schema.BuiltinOptions.SoftmaxOptions
            operator.builtinOptions = schema.SoftmaxOptionsT()
            operator.builtinOptions.beta = 1.0
        model.operatorCodes.append(code)
        graph.operators.append(operator)
    graph.inputs, graph.outputs = list(inputs), [number % len(tensors) for number in outputs]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def channel_means(shape: tuple[int, ...] = (1, 4, 6, 3), then: str = "") -> bytes:
    """The mean of each channel; `then` SOFTMAX or LOGISTIC of them."""
    spatial = (1, 2) if shape[3] in (1, 3) else (2, 3)
    classes = shape[3] if shape[3] in (1, 3) else shape[1]
    tensors = [tensor(shape), constant(*spatial), tensor((1, classes))]
    if not then:
        return tiny_model(tensors, [("MEAN", [0, 1], [2])])
    return tiny_model([*tensors, tensor((1, classes))], [("MEAN", [0, 1], [2]), (then, [2], [3])])


def flattening(
    shape: tuple[int, ...],
    kind: str = "FLOAT32",
    scale: tuple[float, ...] = (),
    zero_point: tuple[int, ...] = (),
) -> bytes:
    """A model whose output is its input, flat: of any type and quantization."""
    length = int(np.prod(shape))
    taken = tensor(shape, kind, scale, zero_point)
    given = tensor((1, length), kind, scale[:1], zero_point[:1])
    return tiny_model([taken, constant(1, length), given], [("RESHAPE", [0, 1], [2])])


@pytest.fixture
def make(tmp_path):
    """Load a model from its bytes: ``make(content, overrides)``."""

    def load(content: bytes, overrides: Overrides | None = PIXELS, **options: Any) -> Model:
        path = tmp_path / "tiny.tflite"
        path.write_bytes(content)
        return Model(path, overrides=overrides, **options)

    return load


def picture(seed: int = 0, height: int = 4, width: int = 6, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels)).astype(np.uint8)


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum()


def test_nhwc_and_nchw_give_the_same(make) -> None:
    pixels = picture()
    for shape, layout in {(1, 4, 6, 3): "NHWC", (1, 3, 4, 6): "NCHW"}.items():
        model = make(channel_means(shape))
        assert (model.layout, model.classes, model.input.shape) == (layout, 3, shape)
        assert (model.preprocessing.height, model.preprocessing.width) == (4, 6)
        found = model.dequantize(model.invoke(model.tensor(pixels)))
        assert found.dtype == np.float64
        np.testing.assert_allclose(found, pixels.mean(axis=(0, 1)), rtol=1e-6)


def test_nchw_of_one_channel(make) -> None:
    model = make(flattening((1, 1, 4, 6)))
    assert (model.layout, model.preprocessing.channels) == ("NCHW", "L")
    pixels = picture(channels=1)
    np.testing.assert_array_equal(model.dequantize(model.invoke(model.tensor(pixels))), pixels.ravel())


def test_nchw_from_an_image_file(make, photos) -> None:
    """Channel means of a picture of the input's size: nothing is lost on the way."""
    path = photos / "red" / "00.jpg"
    model = make(channel_means((1, 3, 48, 48)))
    expected = np.asarray(Image.open(path), np.float64).mean(axis=(0, 1))
    found = model.dequantize(model.invoke(model.tensor(model.preprocessing.pixels(path))))
    np.testing.assert_allclose(found, expected, rtol=1e-6)
    np.testing.assert_allclose(model.classify(path), softmax(expected), atol=1e-4)


def test_logits_become_probabilities(make) -> None:
    model = make(channel_means(), Overrides(normalization=NORMALIZATIONS["-1..1"]))
    assert model.gives_logits
    pixels = picture()
    expected = softmax(pixels.mean(axis=(0, 1)) / 127.5 - 1)
    np.testing.assert_allclose(model.probabilities(model.invoke(model.tensor(pixels))), expected, rtol=1e-5)


def test_probabilities_are_left_as_they_are(make) -> None:
    model = make(channel_means(then="SOFTMAX"), Overrides(normalization=NORMALIZATIONS["-1..1"]))
    assert not model.gives_logits
    pixels = picture()
    expected = softmax(pixels.mean(axis=(0, 1)) / 127.5 - 1)
    np.testing.assert_allclose(model.probabilities(model.invoke(model.tensor(pixels))), expected, rtol=1e-5)


@pytest.mark.parametrize("then", ["LOGISTIC", ""], ids=["sigmoid", "logit"])
def test_one_output_is_the_probability_of_the_second_of_two_classes(make, then) -> None:
    overrides = Overrides(normalization=NORMALIZATIONS["-1..1"], labels=("no person", "person"))
    model = make(channel_means((1, 4, 6, 1), then), overrides)
    assert (model.classes, model.labels) == (2, ("no person", "person"))
    assert model.gives_logits == (then == "")
    pixels = picture(channels=1)
    second = 1 / (1 + np.exp(-(pixels.mean() / 127.5 - 1)))
    np.testing.assert_allclose(model.probabilities(model.invoke(model.tensor(pixels))), [1 - second, second], rtol=1e-5)


@pytest.mark.parametrize("size", [1, 3], ids=["one", "three"])
@pytest.mark.parametrize("value", [-1e4, -800, 800, 1e4])
def test_far_logits_do_not_overflow(make, size, value) -> None:
    model = make(channel_means((1, 4, 6, size)))
    logits = np.zeros((1, size), np.float32)
    logits[0, -1] = value
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        found = model.probabilities(logits)
    expected: dict[tuple[int, bool], list[float]] = {
        (1, True): [0, 1],
        (1, False): [1, 0],
        (3, True): [0, 0, 1],
        (3, False): [0.5, 0.5, 0],
    }
    np.testing.assert_allclose(found, expected[size, value > 0], atol=1e-12)


MEAN = ("MEAN", [0, 1], [2])
ENDS = {
    "logits": ([MEAN], 2),
    "softmax": ([MEAN, ("SOFTMAX", [2], [3])], 3),
    "sigmoid": ([MEAN, ("LOGISTIC", [2], [3])], 3),
    "reshaped logits": ([MEAN, ("RESHAPE", [2, 5], [3])], 3),
    "reshaped softmax": ([MEAN, ("SOFTMAX", [2], [3]), ("RESHAPE", [3, 5], [4])], 4),
    "what is made of a softmax": ([MEAN, ("SOFTMAX", [2], [3]), ("NEG", [3], [4])], 4),
}
"""Operators, and the number of the output tensor."""


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("end", ENDS)
def test_the_last_telling_operator_says_what_the_output_is(make, end, kernels) -> None:
    steps, output = ENDS[end]
    tensors = [tensor((1, 4, 6, 3)), constant(1, 2), *[tensor((1, 3))] * 3, constant(1, 3)]
    model = make(tiny_model(tensors, steps, outputs=(output,)), kernels=kernels)
    assert model.gives_logits == (end not in ("softmax", "sigmoid", "reshaped softmax"))


# Inputs and outputs


@pytest.mark.parametrize(
    ("kind", "scale", "zero_point", "name"),
    [
        ("INT8", 1 / 255, -128, "0..1"),
        ("UINT8", 1 / 255, 0, "0..1"),
        ("INT8", 2 / 255, -1, "-1..1"),
        ("UINT8", 2 / 256, 128, "-1..1"),
        ("INT8", 1.0, -128, "0..255"),
        ("UINT8", 1.0, 0, "0..255"),
        ("UINT8", None, None, "0..255"),  # integers without a scale are pixels
    ],
)
def test_normalization_is_read_off_an_8_bit_inputs_quantization(make, kind, scale, zero_point, name) -> None:
    quantization = () if scale is None else ((scale,), (zero_point,))
    model = make(flattening((1, 16, 16, 1), kind, *quantization), overrides=None)
    assert (model.preprocessing.mean, model.preprocessing.std) == NORMALIZATIONS[name]
    pixels = np.arange(256, dtype=np.uint8).reshape(16, 16, 1)
    real = (pixels.ravel() - NORMALIZATIONS[name][0][0]) / NORMALIZATIONS[name][1][0]
    found = model.dequantize(model.invoke(model.tensor(pixels)))
    # The ends of [-1, 1] may lie a step outside of what 256 integers can say.
    np.testing.assert_allclose(found, real, atol=1.01 * (scale or 1))


@pytest.mark.parametrize(
    ("kind", "scale", "zero_point", "range_"),
    [
        ("FLOAT32", (), (), None),
        ("INT16", (1 / 32768,), (0,), "-1 to 1"),
        ("INT8", (0.0186,), (-14,), "-2.12 to 2.623"),
        ("INT8", (1.0,), (0,), "-128 to 127"),
    ],
)
def test_unknown_normalization_is_asked_for(make, kind, scale, zero_point, range_) -> None:
    with pytest.raises(UnknownNormalizationError) as caught:
        make(flattening((1, 4, 4, 3), kind, scale, zero_point), overrides=None)
    message = str(caught.value)
    assert "tiny.tflite: " in message
    assert "--normalize" in message
    assert kind.lower() in message
    assert range_ is None or range_ in message
    assert make(flattening((1, 4, 4, 3), kind, scale, zero_point)).preprocessing.std == (1.0,)


def test_input_quantized_per_channel(make) -> None:
    scale, zero_point = (0.5, 1.0, 2.0), (-128, -100, 5)
    model = make(flattening((1, 4, 6, 3), "INT8", scale, zero_point))
    pixels = picture()
    found = model.tensor(pixels)
    for channel in range(3):
        alone = Quantization("int8", scale[channel : channel + 1], zero_point[channel : channel + 1])
        np.testing.assert_array_equal(found[0, ..., channel], alone.quantize(pixels[..., channel]))


@pytest.mark.parametrize("layout", ["NHWC", "NCHW"])
@pytest.mark.parametrize("kind", ["FLOAT32", "INT8", "UINT8"])
def test_tensor_is_normalized_and_quantized_pixels(make, kind, layout) -> None:
    """Against the formulas, without the table that edgeq looks pixels up in."""
    shape = (1, 4, 6, 3) if layout == "NHWC" else (1, 3, 4, 6)
    quantization = {"FLOAT32": ((), ()), "INT8": ((0.02,), (-10,)), "UINT8": ((0.02,), (118,))}[kind]
    model = make(flattening(shape, kind, *quantization), Overrides(normalization=NORMALIZATIONS["imagenet"]))
    pixels = picture()
    mean, std = (np.array(values) for values in NORMALIZATIONS["imagenet"])
    expected = ((pixels - mean) / std).astype(np.float32)
    if kind != "FLOAT32":
        limits = np.iinfo(kind.lower())
        steps = expected / np.float32(0.02)
        expected = np.clip(np.floor(np.abs(steps) + 0.5) * np.sign(steps) + quantization[1][0], limits.min, limits.max)
    found = model.tensor(pixels)
    assert (found.dtype, found.shape) == (kind.lower(), shape)
    np.testing.assert_array_equal(found[0] if layout == "NHWC" else found[0].transpose(1, 2, 0), expected)


def test_outputs_are_copies(make) -> None:
    """A view of the interpreter's memory changes with the next run, or forbids it: "reference to internal data"."""
    model = make(channel_means())
    outputs = [model.invoke(model.tensor(picture(seed))) for seed in range(5)]
    reals = [model.dequantize(output) for output in outputs]
    for seed, (output, real) in enumerate(zip(outputs, reals, strict=True)):
        np.testing.assert_allclose(output, picture(seed).mean(axis=(0, 1), keepdims=True)[0], rtol=1e-6)
        np.testing.assert_allclose(real, picture(seed).mean(axis=(0, 1)), rtol=1e-6)
        output[:] = 0  # ours to write to
    np.testing.assert_allclose(model.invoke(model.tensor(picture(0))), [picture(0).mean(axis=(0, 1))], rtol=1e-6)


@pytest.mark.parametrize(
    "wrong",
    [
        np.zeros((4, 6, 3), np.float32),
        np.zeros((1, 6, 4, 3), np.float32),
        np.zeros((2, 4, 6, 3), np.float32),
        np.zeros((1, 4, 6, 1), np.float32),
        np.zeros((0,), np.float32),
        np.zeros((1, 4, 6, 3), np.float64),
        np.zeros((1, 4, 6, 3), np.uint8),
        np.zeros((1, 4, 6, 3), ">f4"),
        np.zeros((1, 4, 6, 3), object),
    ],
    ids=lambda a: f"{a.dtype} {a.shape}",
)
def test_wrong_shape_or_type_is_a_model_error(make, wrong) -> None:
    model = make(channel_means())
    with pytest.raises(ModelError) as caught:
        model.invoke(wrong)
    message = str(caught.value)
    assert message.startswith(f"{model.path}: ")
    assert all(str(part) in message for part in (wrong.shape, wrong.dtype, (1, 4, 6, 3), "float32"))
    np.testing.assert_allclose(model.invoke(model.tensor(picture())), [picture().mean(axis=(0, 1))], rtol=1e-6)


def test_a_run_that_fails_is_a_model_error(make) -> None:
    """The sixth of one image: only running the operator tells that there is none."""
    content = tiny_model([tensor((1, 2, 2, 3)), constant(5), tensor((1, 2, 2, 3))], [("GATHER", [0, 1], [2])])
    model = make(content)
    with pytest.raises(ModelError, match="running the model failed") as caught:
        model.invoke(model.tensor(picture(height=2, width=2)))
    assert str(caught.value).startswith(f"{model.path}: ")


def test_an_input_of_any_memory_layout_will_do(make) -> None:
    model = make(channel_means())
    values = model.tensor(picture())
    for laid_out in (np.asfortranarray(values), np.repeat(values, 2, axis=2)[:, :, ::2], values[:, ::-1][:, ::-1]):
        np.testing.assert_array_equal(model.invoke(laid_out), model.invoke(values))


@pytest.mark.parametrize(
    "wrong",
    [
        picture(height=6, width=4),
        picture(channels=1),
        picture()[None],
        picture().astype(np.float32),
        picture().astype(np.int8),
    ],
    ids=lambda a: f"{a.dtype} {a.shape}",
)
def test_pixels_of_the_wrong_size_or_type_are_a_model_error(make, wrong) -> None:
    model = make(channel_means())
    with pytest.raises(ModelError, match="takes 6x4 uint8 RGB pixels"):
        model.tensor(wrong)


# What a user knows better


def test_overrides(make) -> None:
    normalization = ((1.0, 2.0, 3.0), (4.0,))
    model = make(channel_means((1, 160, 200, 3)), Overrides(normalization, "BGR", 0.5, ("a", "b", "c")))
    assert model.preprocessing == Preprocessing(160, 200, *normalization, channels="BGR", crop=0.5)
    assert model.labels == ("a", "b", "c")
    model = make(channel_means((1, 160, 200, 3)))
    assert model.preprocessing == Preprocessing(160, 200, (0.0,), (1.0,), crop=0.875)
    assert model.labels == ()


def test_overrides_win_over_what_the_file_says(colour_models) -> None:
    path = colour_models / "colours_fp32.tflite"
    said = Model(path)
    assert (said.labels, said.preprocessing) == (("blue", "green", "red"), Preprocessing(32, 32, crop=1.0))
    model = Model(path, overrides=Overrides(NORMALIZATIONS["0..1"], "BGR", 0.25, ("x", "y", "z")))
    assert model.labels == ("x", "y", "z")
    assert model.preprocessing == Preprocessing(32, 32, *NORMALIZATIONS["0..1"], channels="BGR", crop=0.25)


@pytest.mark.parametrize(
    ("overrides", "complaint"),
    [
        (Overrides(NORMALIZATIONS["0..1"], labels=("a", "b")), "has 3 classes, but 2 labels were given"),
        (Overrides(NORMALIZATIONS["0..1"], labels=("a",) * 4), "has 3 classes, but 4 labels were given"),
        (Overrides(NORMALIZATIONS["0..1"], channels="L"), "takes 3 channel"),
        (Overrides(NORMALIZATIONS["0..1"], channels="RGBA"), "must be RGB, BGR or L"),
        (Overrides(NORMALIZATIONS["0..1"], crop=2.0), "crop 2.0"),
        (Overrides(NORMALIZATIONS["0..1"], crop=0.0), "crop 0.0"),
        (Overrides(((1.0, 2.0), (1.0,))), "do not fit the channels RGB"),
        (Overrides(((0.0,), (0.0,))), "std positive"),
    ],
    ids=["few labels", "many labels", "grey", "no such channels", "large crop", "no crop", "two means", "std of 0"],
)
def test_overrides_that_do_not_fit(make, overrides, complaint) -> None:
    with pytest.raises(InputError, match=complaint):
        make(channel_means(), overrides)


def test_text_beside_a_model_that_is_no_list_of_labels_is_ignored(make) -> None:
    content = io.BytesIO(channel_means())
    with zipfile.ZipFile(content, "a") as archive:
        archive.writestr("licence.txt", "one\nof\nmany\nlines\n")
    assert make(content.getvalue()).labels == ()


def test_metadata_says_better_than_operators_what_the_output_is(make) -> None:
    content = io.BytesIO(channel_means())
    metadata = ModelMetadata(("a", "b", "c"), Preprocessing(4, 6, *NORMALIZATIONS["0..1"]), "probabilities")
    with zipfile.ZipFile(content, "a") as archive:
        for name, data in metadata.to_members().items():
            archive.writestr(name, data)
    model = make(content.getvalue(), overrides=None)
    assert (model.gives_logits, model.labels, model.preprocessing) == (False, ("a", "b", "c"), metadata.preprocessing)


# What is no image classifier, or no model


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (lambda: tiny_model([tensor((1, 2, 2, 3))] * 3, [("ADD", [0, 1], [2])], inputs=(0, 1)), "has 2 inputs"),
        (
            lambda: tiny_model([tensor((1, 2, 2, 3))] * 3, [("NEG", [0], [1]), ("NEG", [1], [2])], outputs=(1, 2)),
            "has 2 outputs",
        ),
        (lambda: flattening((1, 12)), r"shape \(1, 12\)"),
        (lambda: flattening((1, 4, 6, 2)), r"shape \(1, 4, 6, 2\)"),
        (lambda: flattening((2, 4, 6, 3)), r"shape \(2, 4, 6, 3\)"),
        (lambda: flattening((1, 1, 4, 6, 3)), r"shape \(1, 1, 4, 6, 3\)"),
    ],
    ids=["two inputs", "two outputs", "vector", "two channels", "batch of 2", "video"],
)
def test_what_is_no_image_classifier(make, content, complaint) -> None:
    with pytest.raises(ModelError, match=complaint) as caught:
        make(content())
    assert "tiny.tflite: " in str(caught.value)


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "no such model file"),
        ("folder", "Is a directory"),
        (b"", "not a TFLite model"),
        (b"TFL3", "not a TFLite model"),
        (b"\x89PNG\r\n\x1a\n" + bytes(100), "not a TFLite model"),
        (b"PK\3\4" + bytes(100), "not a TFLite model"),
    ],
    ids=["missing", "folder", "empty", "four bytes", "picture", "zip"],
)
@pytest.mark.parametrize("runtime", [None, "ai-edge-litert"])
def test_what_is_no_model(tmp_path, content, complaint, runtime) -> None:
    path = tmp_path / "no.tflite"
    if content == "folder":
        path.mkdir()
    elif content is not None:
        path.write_bytes(content)
    with pytest.raises(ModelError, match=complaint) as caught:
        Model(path, runtime=runtime)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("number", [0, 1, 2], ids=["input", "between", "output"])
def test_names_of_tensors_that_are_no_utf_8_are_no_traceback(make, number) -> None:
    """Runtimes fail when asked for the details of such a tensor, although the model would run."""
    content = channel_means()
    name = f"tensor{number}".encode()
    assert content.count(name) == 1
    try:
        model = make(content.replace(name, b"\xff" * len(name)))
    except ModelError as error:
        assert "tiny.tflite: " in str(error)  # noqa: PT017 (either is right)
    else:
        np.testing.assert_allclose(
            model.dequantize(model.invoke(model.tensor(picture()))), picture().mean(axis=(0, 1)), rtol=1e-6
        )


def in_a_process_of_its_own(runtime: str, code: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    """Run Python code for one runtime, as runtimes share no process gladly: `runtime` and `arguments` are its names."""
    if importlib.util.find_spec(RUNTIMES[runtime].partition(".")[0]) is None:
        pytest.skip(f"{runtime} is not installed")
    if runtime == "tflite-runtime" and not np.__version__.startswith("1."):
        pytest.skip("tflite-runtime needs numpy 1")
    return subprocess.run(
        [
            sys.executable,
            "-c",
            f"import sys\nruntime, *arguments = sys.argv[1:]\n{code}",
            runtime,
            *map(str, arguments),
        ],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


LOAD_EACH = """
import json, os
from edgeq.errors import ModelError
from edgeq.runtime import Model

OUTCOMES = ["refused", "loaded", "refused without its name", "another error"]
whole, *cut_off = arguments
Model(whole, runtime=runtime)  # imports the runtime, once for all children
outcomes = []
for path in cut_off:
    child = os.fork()  # a crash of native code takes only the child
    if not child:
        outcome = "another error"
        try:
            Model(path, runtime=runtime)
            outcome = "loaded"
        except ModelError as error:
            outcome = "refused" if str(error).startswith(f"{path}: ") else "refused without its name"
        finally:
            os._exit(OUTCOMES.index(outcome))
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    outcomes.append(f"signal {-code}" if code < 0 else OUTCOMES[code])
print(json.dumps(outcomes))
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_cut_off_files_are_model_errors_and_no_crash(colour_models, tmp_path, runtime) -> None:
    """As an interrupted copy to a device leaves them."""
    whole = (colour_models / "colours_int8.tflite").read_bytes()
    flatbuffer_end = whole.index(b"PK\3\4")
    lengths = [8, 20, 100, *(flatbuffer_end * share // 20 for share in range(1, 20)), flatbuffer_end - 20]
    paths = [tmp_path / f"{length}.tflite" for length in lengths]
    for path, length in zip(paths, lengths, strict=True):
        path.write_bytes(whole[:length])
    done = in_a_process_of_its_own(runtime, LOAD_EACH, colour_models / "colours_int8.tflite", *paths)
    assert done.returncode == 0, done.stderr
    outcomes = dict(zip(lengths, json.loads(done.stdout.splitlines()[-1]), strict=True))
    assert outcomes == dict.fromkeys(lengths, "refused")


# The colour network in each format and runtime


@pytest.fixture(scope="module")
def io_models(colour_network, photos, tmp_path_factory) -> dict[str, Path]:
    """The INT8 file again, with other types of input and output."""
    from edgeq.calibration import choose_images
    from edgeq.conversion import convert_network
    from edgeq.networks import open_network

    preprocessing = Preprocessing(32, 32, crop=1.0)
    calibration = choose_images(photos, preprocessing, count=30)
    network = open_network(colour_network)
    found = {}
    for io_type in ("int8", "uint8", "float32"):
        out = tmp_path_factory.mktemp(io_type)
        convert_network(
            network, preprocessing, ["int8"], out, calibration=calibration, io=io_type, labels=COLOURS, refine=False
        )
        found["int8" if io_type == "int8" else f"int8 of {io_type}"] = out / "colours_int8.tflite"
    return found


@pytest.fixture(scope="module")
def files(colour_models, io_models) -> dict[str, Path]:
    return {**{form: colour_models / f"colours_{form}.tflite" for form in FORMS}, **io_models}


CLASSIFY_ALL = """
import json
import numpy as np
from edgeq.runtime import KERNELS, Model

results = {}
photos = json.loads(arguments[1])
for name, path in json.loads(arguments[0]).items():
    for kernels in KERNELS:
        model = Model(path, runtime=runtime, kernels=kernels)
        assert model.runtime == runtime
        outputs = [model.invoke(model.tensor(model.preprocessing.pixels(photo))) for photo in photos]
        results[f"{name}, {kernels}"] = np.concatenate(outputs)
        results[f"{name}, {kernels}, probabilities"] = np.array([model.probabilities(output) for output in outputs])
np.savez(arguments[2], **results)
"""


@pytest.fixture(scope="module", params=RUNTIMES)
def answers(request, files, photos, tmp_path_factory) -> dict[str, np.ndarray]:
    """What one runtime says of all photos, by ``"{file}, {kernels}"`` (also with ``", probabilities"``)."""
    out = tmp_path_factory.mktemp("answers") / "answers.npz"
    names = json.dumps({name: str(path) for name, path in files.items()})
    paths = json.dumps([str(path) for path in sorted(photos.rglob("*.jpg"))])
    done = in_a_process_of_its_own(request.param, CLASSIFY_ALL, names, paths, out)
    assert done.returncode == 0, done.stderr
    assert (done.stdout, done.stderr) == ("", "")  # runtimes are chatty, edgeq is not
    return dict(np.load(out))


@pytest.fixture(scope="module")
def closed_form(photos) -> np.ndarray:
    """The colour network's probabilities for all photos, computed by hand; and what its answers should be."""
    results = []
    for path in sorted(photos.rglob("*.jpg")):
        x = Preprocessing(32, 32, crop=1.0).pixels(path) / 127.5 - 1
        padded = np.pad(x, ((1, 1), (1, 1), (0, 0)))
        average = np.mean([padded[i : i + 32, j : j + 32] for i in range(3) for j in range(3)], axis=0)
        features = np.clip(average[:, :, ::-1] + 1, 0, 6).mean(axis=(0, 1))
        results.append(softmax(2 * features))
    return np.array(results)


TOLERANCE = {"fp32": 1e-5, "fp16": 2e-3, "int16x8": 0.01, "int8": 0.02, "dynamic": 0.02}
"""How far each format's probabilities may be from the closed form. INT8's own steps are 1/256."""


@pytest.mark.parametrize("kernels", KERNELS)
@pytest.mark.parametrize("name", [*FORMS, *IO_FORMS])
def test_every_runtime_gives_the_right_answers(answers, closed_form, name, kernels) -> None:
    found = answers[f"{name}, {kernels}, probabilities"]
    np.testing.assert_array_equal(found.argmax(axis=1), np.repeat([0, 1, 2], 12))
    np.testing.assert_allclose(found, closed_form, atol=TOLERANCE[name.split()[0]])


@pytest.fixture(scope="module")
def here(files, photos) -> dict[str, np.ndarray]:
    """Outputs of the reference kernels in this process, by whichever runtime is the first."""
    results = {}
    for name, path in files.items():
        model = Model(path, kernels="reference")
        pictures = [model.preprocessing.pixels(photo) for photo in sorted(photos.rglob("*.jpg"))]
        results[name] = np.concatenate([model.invoke(model.tensor(pixels)) for pixels in pictures])
    return results


@pytest.mark.parametrize("name", ["int8", *IO_FORMS, "int16x8"])
def test_reference_kernels_give_the_same_bytes_in_every_runtime(answers, here, name) -> None:
    np.testing.assert_array_equal(answers[f"{name}, reference"], here[name])


@pytest.mark.parametrize("name", ["fp32", "fp16", "dynamic"])
def test_reference_kernels_of_floats_differ_by_rounding_alone(answers, here, name) -> None:
    np.testing.assert_allclose(answers[f"{name}, reference"], here[name], atol=1e-6)


def test_types_of_input_and_output_change_nothing_else(here) -> None:
    """uint8 is int8 plus 128; float32 is what the integers stand for."""
    assert {name: values.dtype.name for name, values in here.items()} == {
        **dict.fromkeys(("fp32", "fp16", "dynamic", "int16x8", "int8 of float32"), "float32"),
        "int8": "int8",
        "int8 of uint8": "uint8",
    }
    np.testing.assert_array_equal(here["int8 of uint8"].astype(int), here["int8"].astype(int) + 128)
    np.testing.assert_array_equal(here["int8 of float32"], (here["int8"].astype(np.float32) + 128) / 256)


@pytest.mark.parametrize("name", [*FORMS, *IO_FORMS])
def test_classify_is_all_steps_in_one(files, photos, closed_form, name) -> None:
    model = Model(files[name])
    for path in photos.glob("*/00.jpg"):
        expected = closed_form[sorted(photos.rglob("*.jpg")).index(path)]
        for source in (path, path.read_bytes(), Image.open(path)):
            found = model.classify(source)
            assert (found.shape, found.dtype) == ((3,), np.float64)
            np.testing.assert_allclose(found, expected, atol=TOLERANCE[name.split()[0]])
            assert model.labels[int(found.argmax())] == path.parent.name


@pytest.mark.parametrize("name", FORMS)
def test_two_threads_give_the_same(files, photos, name) -> None:
    path = next(photos.rglob("*.jpg"))
    np.testing.assert_allclose(
        Model(files[name], threads=2).classify(path), Model(files[name]).classify(path), atol=1e-6
    )


def test_no_threads_are_refused(files) -> None:
    with pytest.raises(ModelError, match="num_threads"):
        Model(files["fp32"], threads=0)


def test_path_may_be_text(files) -> None:
    assert Model(str(files["int8"])).path == Model(files["int8"]).path == files["int8"]


# Published models


CORAL = {
    "cat.bmp": (1, "Egyptian cat"),
    "parrot.jpg": (1, "macaw"),
    "grace_hopper.bmp": (5, "military uniform"),
}
"""What is on Coral's own test pictures, and within how many of the best classes that must be found."""

TOP_5 = """
import json
from edgeq.classification import top_predictions
from edgeq.runtime import Model

model = Model(arguments[0], runtime=runtime)
print(json.dumps([[p.label for p in top_predictions(model.classify(path), model.labels)] for path in arguments[1:]]))
"""


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
@pytest.mark.parametrize("name", ["tf2_mobilenet_v2_1.0_224_ptq", "mobilenet_v2_1.0_224_quant"], ids=["PTQ", "QAT"])
def test_corals_models_know_corals_pictures(shared, name, runtime) -> None:
    """Preprocessing, quantization, labels and runtime: one wrong, and these classes are not the first of 1001."""
    folder = shared / "models/coral"
    done = in_a_process_of_its_own(runtime, TOP_5, folder / f"{name}.tflite", *(folder / picture for picture in CORAL))
    assert done.returncode == 0, done.stderr
    for labels, (picture, (count, expected)) in zip(json.loads(done.stdout), CORAL.items(), strict=True):
        assert expected in labels[: 1 if name.endswith("quant") else count], picture


def test_person_detection(shared) -> None:
    """person.bmp holds its pixels as signed bytes, as a microcontroller wants them: the picture is 128 off."""
    folder = shared / "models/tflm"
    model = Model(folder / "person_detect.tflite")
    assert (model.preprocessing.channels, model.preprocessing.mean, model.classes) == ("L", (127.5,), 2)
    with Image.open(folder / "person.bmp") as stored:
        person = Image.fromarray(np.asarray(stored) ^ 0x80)
    assert model.classify(person)[1] > 0.9
    assert model.classify(folder / "no_person.bmp")[0] > 0.6


def test_resnet_8_knows_cifar_10(shared) -> None:
    """Its own preprocessing is ``pixel - 128`` and nothing else; 75 % of these JPEGs are right then."""
    data = np.load(shared / "data/cifar10/test.npz")
    jpeg, offsets, classes = data["jpeg"].tobytes(), data["offsets"], data["labels"][:200]
    model = Model(shared / "models/mlcommons_tiny/pretrainedResnet_quant.tflite")
    found, direct = [], []
    for start, end in itertools.pairwise(offsets[:201]):
        found.append(model.classify(jpeg[start:end]).argmax())
        pixels = np.asarray(Image.open(io.BytesIO(jpeg[start:end])).convert("RGB"))
        direct.append(model.invoke((pixels[None].astype(int) - 128).astype(np.int8)).argmax())
    assert found == direct
    assert np.mean(found == classes) >= 0.7


def test_visual_wake_words_in_float_and_int8_agree(shared) -> None:
    folder = shared / "models/mlcommons_tiny"
    quantized = Model(folder / "vww_96_int8.tflite")
    assert (quantized.preprocessing.mean, quantized.preprocessing.std) == NORMALIZATIONS["0..1"]
    with pytest.raises(UnknownNormalizationError):
        Model(folder / "vww_96_float.tflite")
    exact = Model(folder / "vww_96_float.tflite", overrides=Overrides(normalization=NORMALIZATIONS["0..1"]))
    for name, person in {"cat.bmp": 0, "parrot.jpg": 0, "grace_hopper.bmp": 1}.items():
        found = [model.classify(shared / "models/coral" / name) for model in (exact, quantized)]
        assert found[0].argmax() == found[1].argmax() == person, name
        np.testing.assert_allclose(found[1], found[0], atol=0.15)


@pytest.mark.parametrize("runtime", ["ai-edge-litert", "tflite-runtime"])
def test_an_operator_that_no_runtime_has_is_a_model_error(shared, runtime) -> None:
    path = shared / "models/coral/model_invoking_error.tflite"
    done = in_a_process_of_its_own(runtime, TOP_5, path, path)
    assert "edgeq.errors.ModelError" in done.stderr.splitlines()[-1]
    assert "fake-op-double" in done.stderr.splitlines()[-1]
