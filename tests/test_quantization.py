"""Quantization against TensorFlow Lite's own reference QUANTIZE kernel, and against closed forms."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from edgeq.preprocessing import NORMALIZATIONS, Preprocessing
from edgeq.quantization import Quantization

RUNTIMES = {
    "ai-edge-litert": "ai_edge_litert.interpreter",
    "tflite-runtime": "tflite_runtime.interpreter",
}

PER_TENSOR = {
    "int8 as the converter has it": Quantization("int8", (0.007843137718737125,), (-1,)),
    "int8 of 2/256": Quantization("int8", (0.0078125,), (0,)),
    "int8 of 1/255": Quantization("int8", (0.003921568859368563,), (-128,)),
    "int8 of whole pixels": Quantization("int8", (1.0,), (-128,)),
    "int8 coarse": Quantization("int8", (0.1,), (7,)),
    "int8 imagenet": Quantization("int8", (0.018658447265625,), (-14,)),
    "uint8 as in Coral": Quantization("uint8", (0.007843137718737125,), (127,)),
    "uint8 of 2/256": Quantization("uint8", (0.0078125,), (128,)),
    "uint8 of whole pixels": Quantization("uint8", (1.0,), (0,)),
    "int16 of [-1, 1]": Quantization("int16", (3.0518509447574615e-05,), (0,)),
    "int16 of whole pixels": Quantization("int16", (1.0,), (0,)),
}
"""The kernel has no int16 with a zero point other than 0, and a scale is a float32 in the file."""


def awkward_numbers(scale: float) -> np.ndarray:
    """Numbers on which roundings differ: halves and their neighbours, those past the integers' ends, ordinary ones."""
    halves = np.arange(-40.5, 41, 0.5, dtype=np.float32) * np.float32(scale)
    neighbours = [np.nextafter(halves, np.float32(end)) for end in (-np.inf, np.inf)]
    rng = np.random.default_rng(5)
    ordinary = rng.normal(0, 100 * scale, 500).astype(np.float32)
    far = np.array([-1e5, -32769, -129, -128.5, 127.5, 255.5, 32767.5, 1e5], np.float32) * np.float32(scale)
    return np.concatenate([halves, *neighbours, ordinary, far, np.array([0.0, -0.0, 0.49999997], np.float32)])


def kernel_inputs(quantization: Quantization) -> np.ndarray:
    """What the kernel and edgeq both quantize: each pixel value as each normalization has it, and awkward numbers."""
    pixels = [
        Preprocessing(1, 1, mean[:1], std[:1], channels="L").normalized_values().ravel()
        for mean, std in NORMALIZATIONS.values()
    ]
    return np.concatenate([*pixels, awkward_numbers(quantization.scale[0])])


def quantizing_model(quantization: Quantization, shape: tuple[int, ...]) -> bytes:
    """A .tflite of a single QUANTIZE operator, built with TFLite's generated schema classes."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    source, target = schema.TensorT(), schema.TensorT()
    source.name, target.name = b"real", b"quantized"
    source.shape = target.shape = list(shape)
    source.type = schema.TensorType.FLOAT32
    target.type = getattr(schema.TensorType, quantization.dtype.upper())
    target.quantization = schema.QuantizationParametersT()
    target.quantization.scale = list(quantization.scale)
    target.quantization.zeroPoint = list(quantization.zero_point)
    target.quantization.quantizedDimension = quantization.axis
    code = schema.OperatorCodeT()
    code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.QUANTIZE
    code.version = 1
    operator = schema.OperatorT()
    operator.inputs, operator.outputs = [0], [1]
    graph = schema.SubGraphT()
    graph.tensors, graph.inputs, graph.outputs, graph.operators = [source, target], [0], [1], [operator]
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, [code], [graph], [schema.BufferT()]
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


RUN_THE_KERNEL = """
import importlib, sys
import numpy as np

module = importlib.import_module(sys.argv[1])
arrays = dict(np.load(sys.argv[2]))
results = {}
for name, values in arrays.items():
    interpreter = module.Interpreter(
        f"{sys.argv[2]}.{name}.tflite", experimental_op_resolver_type=module.OpResolverType.BUILTIN_REF
    )
    interpreter.allocate_tensors()
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], values)
    interpreter.invoke()
    results[name] = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
np.savez(sys.argv[3], **results)
"""


def run_kernel(runtime: str, cases: dict[str, tuple[Quantization, np.ndarray]], folder: Path) -> dict[str, np.ndarray]:
    """What a runtime's reference kernel makes of each case; in another process, as runtimes share none gladly."""
    module = RUNTIMES[runtime]
    if importlib.util.find_spec(module.partition(".")[0]) is None:
        pytest.skip(f"{runtime} is not installed")
    if runtime == "tflite-runtime" and not np.__version__.startswith("1."):
        pytest.skip("tflite-runtime needs numpy 1")
    numbered = {f"case{number}": case for number, case in enumerate(cases.values())}
    inputs, outputs = folder / "inputs.npz", folder / "outputs.npz"
    for name, (quantization, values) in numbered.items():
        Path(f"{inputs}.{name}.tflite").write_bytes(quantizing_model(quantization, values.shape))
    np.savez(inputs, **{name: values for name, (_, values) in numbered.items()})
    done = subprocess.run(
        [sys.executable, "-c", RUN_THE_KERNEL, module, str(inputs), str(outputs)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    results = np.load(outputs)
    return {case: results[name] for case, name in zip(cases, numbered, strict=True)}


@pytest.fixture(scope="module", params=RUNTIMES)
def kernel(request, tmp_path_factory):
    """The reference kernel's results for all of `PER_TENSOR`."""
    cases = {name: (quantization, kernel_inputs(quantization)) for name, quantization in PER_TENSOR.items()}
    return run_kernel(request.param, cases, tmp_path_factory.mktemp("kernel"))


@pytest.mark.parametrize("case", PER_TENSOR)
def test_quantize_is_the_reference_kernel_bit_for_bit(kernel, case) -> None:
    quantization = PER_TENSOR[case]
    result = quantization.quantize(kernel_inputs(quantization))
    assert result.dtype == kernel[case].dtype == quantization.dtype
    np.testing.assert_array_equal(result, kernel[case])


PER_CHANNEL = {
    f"axis {axis}": Quantization("int8", (0.5, 0.1, 0.007843137718737125), (0, 3, -1), axis=axis) for axis in range(4)
}


@pytest.fixture(scope="module", params=RUNTIMES)
def per_channel_kernel(request, tmp_path_factory):
    """The reference kernel's results for all of `PER_CHANNEL`."""
    cases = {name: (quantization, per_channel_input(name)) for name, quantization in PER_CHANNEL.items()}
    return run_kernel(request.param, cases, tmp_path_factory.mktemp("per_channel"))


def per_channel_input(case: str) -> np.ndarray:
    """Four dimensions of different lengths, but for that of the channels, which is 3."""
    shape = [4, 5, 6, 7]
    shape[PER_CHANNEL[case].axis] = 3
    return np.random.default_rng(1).normal(0, 5, shape).astype(np.float32)


@pytest.mark.parametrize("case", PER_CHANNEL)
def test_quantize_per_channel_is_the_reference_kernel_bit_for_bit(per_channel_kernel, case) -> None:
    np.testing.assert_array_equal(PER_CHANNEL[case].quantize(per_channel_input(case)), per_channel_kernel[case])


@pytest.mark.parametrize("case", PER_CHANNEL)
def test_dequantize_per_channel_undoes_quantize_to_half_a_step(case) -> None:
    quantization = PER_CHANNEL[case]
    for channel, (scale, zero_point) in enumerate(zip(quantization.scale, quantization.zero_point, strict=True)):
        alone = Quantization("int8", (scale,), (zero_point,))
        low, high = alone.real_range
        inside = np.clip(per_channel_input(case), low, high)
        real = quantization.dequantize(quantization.quantize(inside)).take(channel, quantization.axis)
        np.testing.assert_allclose(real, inside.take(channel, quantization.axis), atol=0.5001 * scale)


@pytest.mark.parametrize(
    ("real", "expected"),
    [
        (0.5, 1),
        (-0.5, -1),
        (1.5, 2),
        (2.5, 3),  # NumPy's own rounding, to even, would give 2
        (-2.5, -3),
        (126.5, 127),
        (0.49999997, 0),  # the float32 below 0.5: adding 0.5 in float32 gives 1
        (-0.49999997, 0),
        (8388607.5, 127),
        (127.4, 127),
        (127.5, 127),
        (1e30, 127),
        (-128.5, -128),
        (-1e30, -128),
        (np.inf, 127),
        (-np.inf, -128),
        (-0.0, 0),
    ],
)
def test_halves_go_away_from_zero_and_ends_saturate(real, expected) -> None:
    result = Quantization("int8", (1.0,), (0,)).quantize(real)
    assert result.shape == ()
    assert result == expected


@pytest.mark.parametrize(
    ("dtype", "zero_point", "ends"),
    [("int8", -128, (-128, 127)), ("int8", 127, (-128, 127)), ("uint8", 128, (0, 255)), ("int16", 0, (-32768, 32767))],
)
def test_saturation_is_that_of_the_type_after_the_zero_point(dtype, zero_point, ends) -> None:
    quantization = Quantization(dtype, (0.25,), (zero_point,))
    np.testing.assert_array_equal(quantization.quantize([-1e6, 1e6, 0.0]), [*ends, zero_point])


def test_int16_holds_more_than_an_int8_zero_point_could() -> None:
    quantization = Quantization("int16", (2.0,), (1000,))
    np.testing.assert_array_equal(quantization.quantize([0, 2, -5000]), [1000, 1001, -1500])


def test_the_quotient_is_float32() -> None:
    """Pixel 32 in [-1, 1] is -95.499996 steps, which float32 cannot hold: it becomes -95.5, and that rounds down."""
    scale = 0.007843137718737125
    value = np.float32((32 - 127.5) / 127.5)
    assert -95.5 < float(value) / scale < -95.49999
    assert Quantization("int8", (scale,), (0,)).quantize(value) == -96


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_dequantize_does_not_wrap_around(dtype) -> None:
    """``q - zero_point`` of the ends is -255 or 255: past what 8 bits hold."""
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    everything = np.arange(low, high + 1).astype(dtype)
    for zero_point in (low, high):
        real = Quantization(dtype, (0.5,), (zero_point,)).dequantize(everything)
        assert real.dtype == np.float64
        np.testing.assert_array_equal(real, [0.5 * (q - zero_point) for q in range(low, high + 1)])


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int16"])
def test_every_integer_survives_the_way_there_and_back(dtype) -> None:
    low, high = np.iinfo(dtype).min, np.iinfo(dtype).max
    everything = np.arange(low, high + 1).astype(dtype)
    for scale in (0.00390625, 0.007843137718737125, 1.0, 0.1):
        quantization = Quantization(dtype, (scale,), (low // 2,))
        np.testing.assert_array_equal(quantization.quantize(quantization.dequantize(everything)), everything)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_floating_point_tensors_are_only_cast(dtype) -> None:
    quantization = Quantization(dtype)
    values = np.array([0.1, -2.5, 300.25], np.float64)
    assert not quantization.is_quantized
    assert quantization.real_range == (-np.inf, np.inf)
    result = quantization.quantize(values)
    assert result.dtype == dtype
    np.testing.assert_array_equal(result, values.astype(dtype))
    back = quantization.dequantize(result)
    assert back.dtype == np.float64
    np.testing.assert_array_equal(back, result.astype(np.float64))
    with pytest.raises(ValueError, match="integer"):
        _ = quantization.integer_range


def test_integers_without_a_scale_are_rounded_and_saturate() -> None:
    quantization = Quantization("uint8")
    np.testing.assert_array_equal(quantization.quantize([0.4, 0.5, 254.5, 300, -3]), [0, 1, 255, 255, 0])
    np.testing.assert_array_equal(quantization.dequantize(np.array([0, 255], np.uint8)), [0, 255])
    assert quantization.real_range == (0, 255)


@pytest.mark.parametrize(
    ("quantization", "integers", "reals"),
    [
        (Quantization("int8", (0.5,), (-128,)), (-128, 127), (0, 127.5)),
        (Quantization("uint8", (0.0078125,), (128,)), (0, 255), (-1, 0.9921875)),
        (Quantization("int16", (1 / 32768,), (0,)), (-32768, 32767), (-1, 32767 / 32768)),
        (Quantization("int8", (0.5, 2.0), (0, -128)), (-128, 127), (-64, 510)),  # over all channels
    ],
    ids=["int8", "uint8", "int16", "per channel"],
)
def test_ranges(quantization, integers, reals) -> None:
    assert quantization.integer_range == integers
    assert quantization.real_range == reals


def details(dtype: type, scales: list[float], zero_points: list[int], axis: int = 0) -> dict:
    """As an interpreter gives them."""
    return {
        "dtype": dtype,
        "quantization_parameters": {
            "scales": np.array(scales, np.float32),
            "zero_points": np.array(zero_points, np.int32),
            "quantized_dimension": axis,
        },
    }


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        (details(np.int8, [0.5], [-3]), Quantization("int8", (0.5,), (-3,))),
        (details(np.int8, [0.5, 0.25], [0, 1], 3), Quantization("int8", (0.5, 0.25), (0, 1), 3)),
        (details(np.float32, [], []), Quantization("float32")),
        (details(np.float16, [], []), Quantization("float16")),
        (details(np.uint8, [0.0], [0]), Quantization("uint8")),
        (details(np.float32, [0.0], [0]), Quantization("float32")),
    ],
    ids=["int8", "per channel", "float32", "float16", "uint8 of scale 0", "float32 of scale 0"],
)
def test_from_details(given, expected) -> None:
    found = Quantization.from_details(given)
    assert found == expected
    assert found.is_quantized == bool(expected.scale)
    assert all(type(n) in (int, float) for n in found.scale + found.zero_point)  # not NumPy's: JSON cannot hold those


@pytest.mark.parametrize("dtype", ["float32", "float16", "bool"])
def test_types_other_than_integers_have_no_scale(dtype) -> None:
    found = Quantization.from_file(dtype, [0.5], [3], 0)
    assert (found, found.is_quantized) == (Quantization(dtype), False)
