"""Old files whose biases claim a dimension that they do not have: refused by runtimes, repaired by edgeq."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgeq.errors import ModelError
from edgeq.runtime import RUNTIMES, Model
from edgeq.tflite.repair import repaired_model

ROOT = Path(__file__).resolve().parent.parent.parent
COMPLAINT = "quantized_dimension must be in range [0, 1). Was 3."
WEIGHTS = np.array([[1, -2, 3, 4, 0, 0, 0, 0, 0, 0, 0, 9], [0, 0, 0, 0, 0, 0, 0, 5, -6, 7, 8, 0]], np.int8)
BIAS = np.array([100, -200], np.int32)


def dense_model(bias_dimension: int, weights_dimension: int = 0) -> bytes:
    """An INT8 .tflite of 2x2 pixels and 2 classes, its bias quantized along a dimension of its own choice."""
    flatbuffers = pytest.importorskip("flatbuffers")
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")

    def tensor(name: bytes, shape: list[int], kind: str, scale: list[float], buffer: int = 0, dimension: int = 0):
        made = schema.TensorT()
        made.name, made.shape, made.type, made.buffer = name, shape, getattr(schema.TensorType, kind), buffer
        made.quantization = schema.QuantizationParametersT()
        made.quantization.scale, made.quantization.zeroPoint = scale, [0] * len(scale)
        made.quantization.quantizedDimension = dimension
        return made

    graph = schema.SubGraphT()
    graph.tensors = [
        tensor(b"image", [1, 2, 2, 3], "INT8", [2 / 255]),
        tensor(b"flat", [1, 12], "INT8", [2 / 255]),
        tensor(b"weights", [2, 12], "INT8", [0.5, 0.5], 1, weights_dimension),
        tensor(b"bias", [2], "INT32", [1 / 255, 1 / 255], 2, bias_dimension),
        tensor(b"scores", [1, 2], "INT8", [0.5]),
    ]
    graph.inputs, graph.outputs = [0], [4]
    codes = []
    for builtin in (schema.BuiltinOperator.RESHAPE, schema.BuiltinOperator.FULLY_CONNECTED):
        code = schema.OperatorCodeT()
        code.builtinCode = code.deprecatedBuiltinCode = builtin
        code.version = 1 if builtin == schema.BuiltinOperator.RESHAPE else 5
        codes.append(code)
    reshape, dense = schema.OperatorT(), schema.OperatorT()
    reshape.inputs, reshape.outputs = [0], [1]
    reshape.builtinOptionsType, reshape.builtinOptions = schema.BuiltinOptions.ReshapeOptions, schema.ReshapeOptionsT()
    reshape.builtinOptions.newShape = [1, 12]
    dense.opcodeIndex, dense.inputs, dense.outputs = 1, [1, 2, 3], [4]
    dense.builtinOptionsType = schema.BuiltinOptions.FullyConnectedOptions
    dense.builtinOptions = schema.FullyConnectedOptionsT()
    graph.operators = [reshape, dense]
    buffers = [schema.BufferT() for _ in range(3)]
    buffers[1].data, buffers[2].data = WEIGHTS.view(np.uint8).ravel(), BIAS.view(np.uint8)
    model = schema.ModelT()
    model.version, model.operatorCodes, model.subgraphs, model.buffers = 3, codes, [graph], buffers
    builder = flatbuffers.Builder()
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def pictures() -> list[np.ndarray]:
    """2x2 pixels: black, white, and two of noise."""
    rng = np.random.default_rng(0)
    return [np.full((2, 2, 3), value, np.uint8) for value in (0, 255)] + [
        rng.integers(0, 256, (2, 2, 3)).astype(np.uint8) for _ in range(2)
    ]


def expected_scores(pixels: np.ndarray) -> np.ndarray:
    """The model's real numbers in closed form: ``W x + b``, with x in [-1, 1] in steps of 2/255."""
    return (WEIGHTS @ (pixels.reshape(-1) - 127.5) + BIAS) / 255


RUN = """
import importlib, json, sys
import numpy as np
from edgeq.runtime import RUNTIMES, Model

runtime, path = sys.argv[1:]
module = importlib.import_module(RUNTIMES[runtime])
try:
    module.Interpreter(model_path=path).allocate_tensors()
    refusal = None
except ValueError as error:
    refusal = str(error)
model = Model(path, runtime=runtime, kernels="reference")
pictures = np.array(json.load(sys.stdin), np.uint8)
print(json.dumps([refusal, [model.invoke(model.tensor(pixels)).tolist() for pixels in pictures]]))
"""


@pytest.mark.sampled(2)
@pytest.mark.parametrize("runtime", RUNTIMES)
def test_what_a_runtime_refuses_runs_after_repair(tmp_path, runtime) -> None:
    if importlib.util.find_spec(RUNTIMES[runtime].partition(".")[0]) is None:
        pytest.skip(f"{runtime} is not installed")
    if runtime == "tflite-runtime" and not np.__version__.startswith("1."):
        pytest.skip("tflite-runtime needs numpy 1")
    answers = {}
    for name, dimension in {"good": 0, "old": 3}.items():
        path = tmp_path / f"{name}.tflite"
        path.write_bytes(dense_model(dimension))
        done = subprocess.run(
            [sys.executable, "-c", RUN, runtime, str(path)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            input=json.dumps([pixels.tolist() for pixels in pictures()]),
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        refusal, answers[name] = json.loads(done.stdout.splitlines()[-1])
        assert (refusal is None) == (name == "good")
        assert refusal is None or "quantized_dimension must be in range" in refusal
    assert answers["old"] == answers["good"]
    for answer, pixels in zip(answers["old"], pictures(), strict=True):
        np.testing.assert_allclose(np.ravel(answer) * 0.5, expected_scores(pixels), atol=0.3)  # half a step


def test_only_the_field_of_tensors_of_one_dimension_is_changed(tmp_path) -> None:
    """Weights are truly quantized along their dimension, and stay so."""
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    path = tmp_path / "old.tflite"
    path.write_bytes(dense_model(3, weights_dimension=1))
    repaired = repaired_model(path, COMPLAINT)
    assert repaired is not None
    before = path.read_bytes()
    changed = [i for i in range(len(before)) if before[i] != repaired[i]]
    assert len(before) == len(repaired)
    assert len(changed) == 1
    graph = schema.Model.GetRootAs(repaired, 0).Subgraphs(0)
    dimensions = {
        graph.Tensors(i).Name(): graph.Tensors(i).Quantization().QuantizedDimension()
        for i in range(graph.TensorsLength())
    }
    assert dimensions == {b"image": 0, b"flat": 0, b"weights": 1, b"bias": 0, b"scores": 0}


@pytest.mark.parametrize(
    "complaint", ["", "The model is not a valid Flatbuffer buffer", "Encountered unresolved custom op"]
)
def test_other_complaints_are_not_its_matter(tmp_path, complaint) -> None:
    path = tmp_path / "old.tflite"
    path.write_bytes(dense_model(3))
    assert repaired_model(path, complaint) is None


def test_what_it_cannot_repair_stays_a_model_error(tmp_path) -> None:
    """Weights of two dimensions that claim a fourth are no slip of an old converter."""
    path = tmp_path / "wrong.tflite"
    path.write_bytes(dense_model(0, weights_dimension=3))
    with pytest.raises(ModelError, match="2 scales along dimension 3") as caught:
        Model(path)
    assert str(caught.value).startswith(f"{path}: ")


def test_person_detection_gives_the_published_scores(shared) -> None:
    """TensorFlow Lite Micro's own test prints 113 for the person and -57 for none, of the files' bytes as int8."""
    model = Model(shared / "models/tflm/person_detect.tflite", kernels="reference")
    for name, scores in {"person": [-113, 113], "no_person": [57, -57]}.items():
        with Image.open(shared / "models/tflm" / f"{name}.bmp") as image:
            content = np.asarray(image).view(np.int8).reshape(1, 96, 96, 1)
        assert model.invoke(content).tolist() == [scores]
