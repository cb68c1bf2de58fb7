"""Models broken on purpose, each in one way: the comparison names the layer, or what goes into the first one."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgeq.calibration import choose_images, shipped_images
from edgeq.comparison import Comparison, compare
from edgeq.graphs import pair_graphs
from edgeq.preprocessing import NORMALIZATIONS
from edgeq.report.terminal import comparison_lines
from edgeq.report.wording import verdict
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import read_metadata

pytest.importorskip("tensorflow")

SIDE = 96
VICTIM = 20
"""Place of the weighted operator that is broken, half way down."""


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """A trained network, the one that comes with edgeq: float and INT8."""
    from edgeq.conversion import convert_network
    from edgeq.networks import build_network

    network = build_network("mobilenet_v2", SIDE, SIDE, weights="bundled")
    assert network.preprocessing is not None
    calibration = choose_images(shipped_images(), network.preprocessing, count=20)
    out = tmp_path_factory.mktemp("layers")
    float_model, integer_model = convert_network(
        network, network.preprocessing, ["int8"], out, calibration=calibration, refine=False
    )
    return float_model.path, integer_model.path


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A few pictures to compare on."""
    folder = tmp_path_factory.mktemp("images")
    for path in sorted(p for p in shipped_images().iterdir() if p.suffix in (".png", ".jpg"))[:12]:
        shutil.copy(path, folder)
    return folder


@pytest.fixture
def broken(models: tuple[Path, Path], images: Path, tmp_path: Path) -> Callable[..., Comparison]:
    """Compare the float model with an INT8 model that was changed: ``broken(change)``."""
    from edgeq.tflite.metadata_writer import repack

    def compare_changed(change: Callable[[GraphEditor], None] | None = None, **preprocessing: object) -> Comparison:
        path = tmp_path / "broken.tflite"
        editor = GraphEditor(read_graph(models[1]))
        if change is not None:
            change(editor)
        metadata = read_metadata(models[1])
        assert metadata.preprocessing is not None
        spec = replace(metadata.preprocessing, **preprocessing)  # type: ignore[arg-type]
        path.write_bytes(repack(editor.content, replace(metadata, preprocessing=spec)))
        return compare(models[0], path, images, layers=True, layer_images=4)

    return compare_changed


def victim(editor: GraphEditor) -> tuple[int, int, int, int]:
    """The operator to break: its place, and the indices of its weights, its bias and its output."""
    weighted = [o for o in editor.graph.operators if "CONV" in o.name]
    operator = weighted[VICTIM]
    return operator.index, operator.inputs[1], operator.inputs[2], operator.outputs[0]


def scale(which: int, factor: float) -> Callable[[GraphEditor], None]:
    """Multiply the scale of the victim's weights (1), bias (2) or output (3)."""

    def change(editor: GraphEditor) -> None:
        index = victim(editor)[which]
        editor.set_quantization(index, np.multiply(editor.graph.tensors[index].quantization.scale, factor))

    return change


def zero_bias(editor: GraphEditor) -> None:
    index = victim(editor)[2]
    editor.set_data(index, np.zeros_like(editor.graph.tensors[index].data))


def swap_colours(editor: GraphEditor) -> None:
    """Turn the first layer into one that was trained on BGR."""
    index = editor.graph.operators[0].inputs[1]
    data = editor.graph.tensors[index].data
    assert data is not None
    editor.set_data(index, np.ascontiguousarray(data[..., ::-1]))


@pytest.mark.sampled(2)
@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (scale(1, 4.0), "its weights"),
        (scale(1, 0.25), "its weights"),
        (scale(3, 0.125), "beyond its range"),
        (scale(3, 32.0), "of its range"),
        (zero_bias, "bias"),
    ],
    ids=["weights too large", "weights too small", "output too narrow", "output too wide", "bias zeroed"],
)
def test_a_broken_layer_is_named_with_the_reason(
    broken: Callable[..., Comparison], change: Callable[[GraphEditor], None], reason: str, models: tuple[Path, Path]
) -> None:
    place = victim(GraphEditor(read_graph(models[1])))[0]
    comparison = broken(change)
    assert comparison.layers is not None
    assert place in [layer.index for layer in comparison.layers[:3]], "the culprit stands among the first"
    (fault,) = comparison.faults  # and no victim is blamed
    assert f"operator {place} " in fault
    assert reason in fault
    assert verdict(comparison).startswith("Operator")


@pytest.mark.parametrize(
    ("change", "preprocessing", "reason"),
    [
        (None, {"channels": "BGR"}, "colours go in as BGR"),
        (swap_colours, {}, "takes BGR"),
        (None, dict(zip(("mean", "std"), NORMALIZATIONS["0..1"], strict=True)), "wrong normalization"),
    ],
    ids=["BGR in the metadata", "BGR in the weights", "normalization in the metadata"],
)
def test_a_wrong_input_is_told_from_a_broken_layer(
    broken: Callable[..., Comparison],
    change: Callable[[GraphEditor], None] | None,
    preprocessing: dict[str, object],
    reason: str,
) -> None:
    comparison = broken(change, **preprocessing)
    assert reason in comparison.faults[0]
    assert reason in verdict(comparison)


def test_calibration_with_another_normalization_is_told(
    models: tuple[Path, Path], images: Path, broken: Callable[..., Comparison]
) -> None:
    def other_range(editor: GraphEditor) -> None:
        """The input's scale as it is for pixels in 0..1."""
        editor.set_quantization(editor.graph.inputs[0], [1 / 255], [-128])

    assert "another normalization" in broken(other_range).faults[0]


def test_nothing_is_called_broken_in_an_intact_model(broken: Callable[..., Comparison]) -> None:
    assert broken().faults == ()


def test_layers_are_measured_as_their_definitions_say(models: tuple[Path, Path], images: Path) -> None:
    """Against the activations of both models, each taken out of it by itself."""
    from edgeq.graphs import TappedRunner
    from edgeq.runtime import Model

    comparison = compare(*models, images, layers=True, layer_images=1)
    assert comparison.layers is not None
    pair = pair_graphs(*map(read_graph, models))
    match = next(p for p in pair.operators[VICTIM:] if "CONV" in p.reference.name)
    (row,) = [layer for layer in comparison.layers if layer.index == match.candidate.index]
    first = min(images.iterdir())
    tapped = []
    for path, graph, operator in (
        (models[0], pair.reference, match.reference),
        (models[1], pair.candidate, match.candidate),
    ):
        model = Model(path)
        tensor = model.tensor(model.preprocessing.pixels(first))
        values = TappedRunner(graph, operator.outputs).run(tensor)[operator.outputs[0]]
        tapped.append(graph.tensors[operator.outputs[0]].quantization.dequantize(values).ravel())
    x, y = tapped
    assert row.sqnr_db == pytest.approx(10 * math.log10(x @ x / np.sum((y - x) ** 2)), abs=1e-3)
    assert row.cosine == pytest.approx(x @ y / np.linalg.norm(x) / np.linalg.norm(y), abs=1e-5)
    weights = [
        g.tensors[o.inputs[1]].dequantize().ravel()
        for g, o in ((pair.reference, match.reference), (pair.candidate, match.candidate))
    ]
    noise = np.sum((weights[1] - weights[0]) ** 2)
    assert row.weight_sqnr_db == pytest.approx(10 * math.log10(weights[0] @ weights[0] / noise), abs=1e-6)


def test_a_models_drift_from_itself_is_none(models: tuple[Path, Path], images: Path) -> None:
    comparison = compare(models[1], models[1], images, layers=True, layer_images=2)
    assert comparison.layers is not None
    assert all(layer.sqnr_db is None and layer.alone_sqnr_db is None for layer in comparison.layers)


def test_the_worst_layers_have_histograms_and_all_is_json(models: tuple[Path, Path], images: Path) -> None:
    comparison = compare(*models, images, layers=True, layer_images=2)
    assert comparison.layers is not None
    with_histogram = [layer.histogram is not None for layer in comparison.layers]
    assert with_histogram == sorted(with_histogram, reverse=True)
    assert sum(with_histogram) == 4
    histogram = comparison.layers[0].histogram
    assert histogram is not None
    assert sum(histogram.reference) == sum(histogram.candidate) == 2 * math.prod(comparison.layers[0].shape)
    document = json.loads(json.dumps(comparison.to_json(), allow_nan=False))
    assert len(document["layers"]) == len(comparison.layers)
    text = "\n".join(comparison_lines(comparison, 100))
    assert f"{len(comparison.layers)} layers, the 8 worst:" in text


def test_layers_are_compared_on_images_that_can_be_read(
    models: tuple[Path, Path], images: Path, tmp_path: Path
) -> None:
    """The first of each two is broken, and the two layer images would be two of these."""
    for number, path in enumerate(sorted(images.iterdir())[:4]):
        shutil.copy(path, tmp_path / f"{number}b.jpg")
        (tmp_path / f"{number}a.jpg").write_bytes(b"broken")
    found = compare(*models, tmp_path, layers=True, layer_images=4)
    assert (found.images, len(found.skipped)) == (4, 4)
    assert found.layers is not None
    assert all(math.isfinite(layer.range_use) for layer in found.layers)
