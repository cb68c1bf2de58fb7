"""Whether what the tables say of a target is what happens there."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

from edgeq.errors import InputError, RuntimeUnavailableError
from edgeq.inspection import TARGETS, TargetReport, check_target
from edgeq.tflite.graph import read_graph

FORMATS = ["fp32", "int8", "fp16", "dynamic", "int16x8"]


@pytest.fixture(scope="module")
def mobilenets(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small MobileNetV2 in all formats: its dense layer has weights enough to be quantized alone."""
    from edgeq.calibration import choose_images, shipped_images
    from edgeq.conversion import convert_network
    from edgeq.networks import build_network
    from edgeq.preprocessing import Preprocessing

    out = tmp_path_factory.mktemp("mobilenets")
    preprocessing = Preprocessing(32, 32, crop=1.0)
    calibration = choose_images(shipped_images(), preprocessing, count=10)
    network = build_network("mobilenet_v2", 32, 32, alpha=0.35, classes=10, weights="none")
    convert_network(network, preprocessing, FORMATS, out, calibration=calibration, refine=False)
    return out


def model(folder: Path, name: str) -> Path:
    (found,) = folder.glob(f"*_{name}.tflite")
    return found


def check(path: Path, target: str) -> TargetReport:
    return check_target(read_graph(path), target)


def reasons(path: Path, target: str) -> dict[str, str]:
    return {obstacle.operator: obstacle.reason for obstacle in check(path, target).obstacles}


@pytest.mark.sampled(3)
@pytest.mark.parametrize("name", FORMATS)
@pytest.mark.parametrize("runtime", ["tflite-runtime", "ai-edge-litert"])
def test_the_runtimes_agree_with_their_tables(runtime: str, name: str, mobilenets: Path) -> None:
    package = runtime.replace("-", "_")
    if importlib.util.find_spec(package) is None:
        pytest.skip(f"{runtime} is not installed")
    path = model(mobilenets, name)
    code = f"import sys; from {package}.interpreter import Interpreter; Interpreter(sys.argv[1]).allocate_tensors()"
    loaded = subprocess.run([sys.executable, "-c", code, path], capture_output=True, check=False).returncode == 0
    assert (not check(path, runtime).obstacles) is loaded


def test_a_dense_layer_too_new_for_tflite_runtime(mobilenets: Path) -> None:
    """TensorFlow issues 80736 and 76743: weights quantized per channel, activations float."""
    found = reasons(model(mobilenets, "dynamic"), "tflite-runtime==2.14")
    assert found == {"FULLY_CONNECTED": "is of version 12; tflite-runtime 2.14.0 knows it up to version 10"}


def test_float_left_over_for_the_edge_tpu(colour_models: Path) -> None:
    assert check(colour_models / "colours_int8.tflite", "edgetpu").obstacles == ()
    found = reasons(colour_models / "colours_fp32.tflite", "edgetpu")
    assert found["CONV_2D"] == "works on float32; only 8-bit tensors are mapped"
    assert "int16" in reasons(colour_models / "colours_int16x8.tflite", "edgetpu")["CONV_2D"]


def test_an_open_batch_for_the_edge_tpu(shared: Path) -> None:
    found = reasons(shared / "models" / "mlcommons_tiny" / "vww_96_float.tflite", "edgetpu")
    assert "leaves a size open" in found[""]


@pytest.mark.parametrize(
    ("name", "operators"),
    [
        ("fp32", set()),
        ("int8", set()),
        ("int16x8", set()),
        ("fp16", {"DEQUANTIZE"}),
        ("dynamic", {"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"}),
    ],
)
def test_microcontrollers(name: str, operators: set[str], mobilenets: Path) -> None:
    """As tflite-micro itself answers on these very files."""
    assert set(reasons(model(mobilenets, name), "tflm")) == operators


def test_ethos_u_asks_for_its_compiler(colour_models: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("edgeq.inspection.vela.util.find_spec", lambda name: None)
    with pytest.raises(RuntimeUnavailableError, match="pip install 'edgeq\\[ethos-u\\]'"):
        check(colour_models / "colours_int8.tflite", "ethos-u")


def test_ethos_u(colour_models: Path) -> None:
    pytest.importorskip("ethosu.vela", reason="Arm's Vela is not installed (pip install 'edgeq[ethos-u]')")
    assert check(colour_models / "colours_int8.tflite", "ethos-u").obstacles == ()
    found = reasons(colour_models / "colours_fp32.tflite", "ethos-u")
    assert found["FULLY_CONNECTED"] == "Operation has tensor with unsupported DataType Float32"


@pytest.mark.parametrize("target", TARGETS)
def test_every_target_names_its_source(target: str, colour_models: Path) -> None:
    if target == "ethos-u":
        pytest.importorskip("ethosu.vela", reason="Arm's Vela is not installed")
    report = check(colour_models / "colours_int8.tflite", target)
    assert report.target == target
    assert report.source


@pytest.mark.parametrize("target", ["", "tpu", "edgetpu==2", "tflite-runtime==2.15", "tflite-runtime==2.1"])
def test_unknown_targets(target: str, colour_models: Path) -> None:
    with pytest.raises(InputError, match="target"):
        check(colour_models / "colours_int8.tflite", target)


@pytest.mark.parametrize("target", ["tflite-runtime==2.14", "tflite-runtime==2.14.0", "ai-edge-litert==2.3"])
def test_versions(target: str, colour_models: Path) -> None:
    assert check(colour_models / "colours_int8.tflite", target).obstacles == ()
