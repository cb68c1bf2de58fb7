"""A whole model refined: it agrees better with the float one, and nothing but its numbers changes."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import ROOT, IntegerPair
from graphs import assert_same_data, with_weights_outside
from threadpoolctl import threadpool_limits

from edgeq.calibration import choose_images, shipped_images
from edgeq.errors import InputError
from edgeq.graphs import OperatorRunner, TappedRunner
from edgeq.graphs.pairing import WEIGHTED
from edgeq.preprocessing import NORMALIZATIONS
from edgeq.refinement import Refinement, refine_model
from edgeq.refinement.correction import correct_scale
from edgeq.refinement.layers import Layer
from edgeq.refinement.observation import Inputs
from edgeq.runtime import RUNTIMES, Model
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph, read_graph
from edgeq.tflite.metadata import Overrides

BIAS_ONLY: dict[str, Any] = {"methods": ()}


def opened(pair: IntegerPair, candidate: Path | None = None) -> tuple[Model, Model]:
    return Model(pair.fp32, runtime="ai-edge-litert"), Model(candidate or pair.int8, runtime="ai-edge-litert")


@pytest.fixture(scope="module")
def refined(blocks: IntegerPair) -> tuple[bytes, Refinement]:
    return refine_model(*opened(blocks), blocks.pixels)


def probabilities(model: Model, pixels: list[np.ndarray]) -> np.ndarray:
    return np.stack([model.probabilities(model.invoke(model.tensor(image))) for image in pixels])


def l1(blocks: IntegerPair, candidate: Path, pixels: list[np.ndarray]) -> float:
    found = [probabilities(model, pixels) for model in opened(blocks, candidate)]
    return float(np.abs(found[0] - found[1]).sum(axis=1).mean())


def written(content: bytes, folder: Path, name: str = "refined.tflite") -> Path:
    path = folder / name
    path.write_bytes(content)
    return path


class TestResult:
    def test_agrees_better_on_images_that_were_not_used(
        self, refined: tuple[bytes, Refinement], blocks: IntegerPair, tmp_path: Path
    ) -> None:
        content, result = refined
        checks = blocks.pixels[4::5]
        assert (result.images, result.checked_on, result.layers, result.kept) == (32, 8, 10, True)
        assert result.error_before == pytest.approx(l1(blocks, blocks.int8, checks), abs=1e-6)
        assert result.error_after == pytest.approx(l1(blocks, written(content, tmp_path), checks), abs=1e-6)
        assert result.error_after < 0.65 * result.error_before
        assert result.to_json() == {
            "images": 32,
            "checked_on": 8,
            "layers": 10,
            "methods": ["bias", "gain", "rounding", "compensation"],  # narrower ranges would not help here
            "l1_before": result.error_before,
            "l1_after": result.error_after,
            "fitted_l1_before": result.fitted_error_before,
            "fitted_l1_after": result.fitted_error_after,
            "kept": True,
        }

    def test_only_numbers_change(self, refined: tuple[bytes, Refinement], blocks: IntegerPair) -> None:
        before, after = read_graph(blocks.int8), Graph(refined[0], "refined")
        assert len(after.content) == len(before.content)
        assert after.content != before.content
        steps = [[(o.name, o.version, o.inputs, o.outputs) for o in g.operators] for g in (before, after)]
        assert steps[0] == steps[1]
        kinds = [[(t.name, t.shape, t.quantization.dtype, t.data is None) for t in g.tensors] for g in (before, after)]
        assert kinds[0] == kinds[1]
        for index in (*before.inputs, *before.outputs):
            assert before.tensors[index].quantization == after.tensors[index].quantization

    def test_weights_stay_symmetric_and_biases_fit_their_layers(self, refined: tuple[bytes, Refinement]) -> None:
        """TFLite's quantization specification: no -128, and a bias in steps of input times weights."""
        graph = Graph(refined[0], "refined")
        for operator in graph.operators:
            if operator.name in WEIGHTED:
                source, weights, bias = (graph.tensors[i] for i in operator.inputs)
                assert weights.data is not None
                assert weights.data.min() >= -127
                scales = np.float64(source.quantization.scale[0]) * np.asarray(weights.quantization.scale)
                np.testing.assert_allclose(bias.quantization.scale, scales, rtol=1e-6)

    def test_the_same_again_whatever_the_number_of_threads(
        self, refined: tuple[bytes, Refinement], blocks: IntegerPair
    ) -> None:
        for threads in (1, 3):
            assert refine_model(*opened(blocks), blocks.pixels, threads=threads) == refined

    def test_the_same_bytes_on_any_number_of_cores(
        self, mobilenet_models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """BLAS, which sums in another order on several threads, would otherwise use all cores."""
        monkeypatch.setattr(Refinement, "kept", True)  # the weights are random
        pair = [Model(path, runtime="ai-edge-litert") for path in sorted(mobilenet_models.glob("*.tflite"))]
        pixels = choose_images(shipped_images(), pair[0].preprocessing, count=12).pixels
        made = set()
        for threads in (1, 2, 4):
            with threadpool_limits(threads, user_api="blas"):
                made.add(refine_model(pair[0], pair[1], pixels, threads=threads)[0])
        assert len(made) == 1

    def test_images_kept_for_checking_are_for_nothing_else(
        self, refined: tuple[bytes, Refinement], blocks: IntegerPair, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Noise in their place changes what is measured and not what is made."""
        monkeypatch.setattr(Refinement, "kept", True)
        rng = np.random.default_rng(0)
        pixels = list(blocks.pixels)
        for number in range(4, len(pixels), 5):
            pixels[number] = rng.integers(0, 256, pixels[number].shape, np.uint8)
        content, result = refine_model(*opened(blocks), pixels)
        assert content == refined[0]
        assert result.error_before != refined[1].error_before
        pixels = list(blocks.pixels)
        pixels[3] = pixels[4]
        assert refine_model(*opened(blocks), pixels)[0] != refined[0]  # the others do count

    def test_never_worse(self, blocks: IntegerPair) -> None:
        """Refined on nothing but black pictures, a model would get worse on photos: it stays byte for byte."""
        pixels = [image if number % 5 == 4 else np.zeros_like(image) for number, image in enumerate(blocks.pixels)]
        content, result = refine_model(*opened(blocks), pixels)
        assert content == blocks.int8.read_bytes()
        assert not result.kept
        assert result.error_after >= result.error_before
        assert result.to_json()["kept"] is False

    def test_weights_outside_the_flatbuffer(
        self, refined: tuple[bytes, Refinement], blocks: IntegerPair, tmp_path: Path
    ) -> None:
        path = written(with_weights_outside(blocks.int8.read_bytes()), tmp_path, "outside.tflite")
        overrides = Overrides(normalization=NORMALIZATIONS["-1..1"], crop=1.0)
        candidate = Model(path, runtime="ai-edge-litert", overrides=overrides)
        content, result = refine_model(opened(blocks)[0], candidate, blocks.pixels)
        assert result == refined[1]
        assert len(content) == path.stat().st_size
        for tensor, same in zip(Graph(content, "m").tensors, Graph(refined[0], "m").tensors, strict=True):
            assert tensor.quantization == same.quantization
            assert_same_data(tensor, same)

    def test_progress_is_told(self, blocks: IntegerPair) -> None:
        calls: list[tuple[str, int, int]] = []
        refine_model(*opened(blocks), blocks.pixels[:10], **BIAS_ONLY, progress=lambda *call: calls.append(call))
        stages = list(dict.fromkeys(stage for stage, _, _ in calls))
        assert stages == ["Calibrating", "Refining", "Checking"]
        for stage in stages:
            numbers = [(done, total) for name, done, total in calls if name == stage]
            assert numbers == sorted(numbers)
            assert numbers[-1][0] == numbers[-1][1]


class TestBiases:
    def damaged(self, blocks: IntegerPair, folder: Path) -> Path:
        """A bias of the first, a middle and the last layer moved by several steps of what the layer puts out."""
        editor = GraphEditor(read_graph(blocks.int8))
        layers = [o for o in editor.graph.operators if o.name in WEIGHTED]
        rng = np.random.default_rng(0)
        for operator in (layers[0], layers[5], layers[-1]):
            bias, made = editor.graph.tensors[operator.inputs[2]], editor.graph.tensors[operator.outputs[0]]
            assert bias.data is not None
            steps = rng.uniform(-12, 12, bias.shape) * made.quantization.scale[0] / np.asarray(bias.quantization.scale)
            editor.set_data(bias.index, (bias.data + steps).astype(np.int32))
        return written(editor.content, folder, "damaged.tflite")

    def test_that_were_damaged_are_corrected(self, blocks: IntegerPair, tmp_path: Path) -> None:
        path = self.damaged(blocks, tmp_path)
        content, result = refine_model(*opened(blocks, path), blocks.pixels, **BIAS_ONLY)
        assert result.kept
        assert result.error_before > 0.15
        assert result.error_after < 0.2 * result.error_before
        graphs = [Graph(c, "m") for c in (blocks.int8.read_bytes(), path.read_bytes(), content)]
        for operator in graphs[0].operators:
            if operator.name in WEIGHTED:
                made = graphs[0].tensors[operator.outputs[0]].quantization.scale[0]
                original, broken, corrected = (g.tensors[operator.inputs[2]].dequantize() / made for g in graphs)
                assert np.abs(corrected - original).max() < 2.5  # steps of the output
                if operator.index in (0, graphs[0].operators[-2].index):
                    assert np.abs(broken - original).max() > 4

    def test_give_each_layer_the_mean_output_of_the_float_one(self, blocks: IntegerPair) -> None:
        """Over the images refined on, channel by channel, where nothing clamps: the definition of the correction."""
        content, _ = refine_model(*opened(blocks), blocks.pixels, **BIAS_ONLY)
        images = [image for number, image in enumerate(blocks.pixels) if number % 5 != 4]
        float_model, integer_model = opened(blocks)
        graphs = read_graph(blocks.fp32), Graph(content, "refined"), read_graph(blocks.int8)
        linear = [2, 5, 12]  # the bottlenecks and the classifier
        means: list[list[np.ndarray]] = []
        for graph in graphs:
            outputs = [graph.operators[number].outputs[0] for number in linear]
            runner = TappedRunner(graph, outputs)
            model = float_model if graph is graphs[0] else integer_model
            totals: list[np.ndarray] = [np.zeros(1)] * len(linear)
            for image in images:
                found = runner.run(model.tensor(image))
                real = [graph.tensors[i].quantization.dequantize(found[i]) for i in outputs]
                totals = [t + r.reshape(-1, r.shape[-1]).mean(axis=0) for t, r in zip(totals, real, strict=True)]
                del found
            means.append([total / len(images) for total in totals])
        for number, expected, corrected, uncorrected in zip(linear, *means, strict=True):
            step = graphs[1].tensors[graphs[1].operators[number].outputs[0]].quantization.scale[0]
            assert np.abs(corrected - expected).max() < 0.2 * step
            assert np.abs(corrected - expected).max() < 0.5 * np.abs(uncorrected - expected).max()

    def test_weights_and_ranges_stay_as_they_are(self, blocks: IntegerPair) -> None:
        content, result = refine_model(*opened(blocks), blocks.pixels, **BIAS_ONLY)
        assert result.error_after < 0.65 * result.error_before
        before, after = read_graph(blocks.int8), Graph(content, "refined")
        for old, new in zip(before.tensors, after.tensors, strict=True):
            assert old.quantization.scale == pytest.approx(new.quantization.scale, rel=1e-6)
            assert old.quantization.zero_point == new.quantization.zero_point
            if old.data is not None and old.data.dtype == np.int8:
                assert_same_data(old, new)


class TestGain:
    LAYER = 5  # a bottleneck, which nothing clamps

    def weakened(self, blocks: IntegerPair, factor: float) -> GraphEditor:
        """The INT8 model, one layer of which puts out `factor` times as much as it should."""
        editor = GraphEditor(read_graph(blocks.int8))
        _, weights, bias = editor.graph.operators[self.LAYER].inputs
        for index in (weights, bias):
            editor.set_quantization(index, factor * np.asarray(editor.graph.tensors[index].quantization.scale))
        return editor

    def scales(self, graph: Graph) -> np.ndarray:
        return np.asarray(graph.tensors[graph.operators[self.LAYER].inputs[1]].quantization.scale)

    @pytest.mark.parametrize("factor", [0.7, 0.9, 1.2])
    def test_a_layer_that_was_weakened_is_brought_back(
        self, factor: float, blocks: IntegerPair, tmp_path: Path
    ) -> None:
        path = written(self.weakened(blocks, factor).content, tmp_path)
        content, result = refine_model(*opened(blocks, path), blocks.pixels, methods=("gain",))
        assert (result.kept, result.methods) == (True, ("bias", "gain"))
        found = self.scales(Graph(content, "refined")) / self.scales(read_graph(blocks.int8))
        np.testing.assert_allclose(found, 1, atol=0.02)
        assert result.error_after < 0.65 * result.error_before

    def test_scales_whole_layers_and_leaves_the_integers_alone(self, blocks: IntegerPair) -> None:
        content, _ = refine_model(*opened(blocks), blocks.pixels, methods=("gain",))
        graphs = read_graph(blocks.int8), Graph(content, "refined")
        factors = []
        for operator in graphs[0].operators:
            if operator.name in WEIGHTED:
                before, after = (graph.tensors[operator.inputs[1]] for graph in graphs)
                ratio = np.asarray(after.quantization.scale) / np.asarray(before.quantization.scale)
                np.testing.assert_allclose(ratio, ratio[0], rtol=1e-6)
                assert_same_data(before, after)
                factors.append(ratio[0])
        assert all(0.9 < factor < 1.1 for factor in factors)
        assert len(set(factors)) == len(factors)

    def test_what_another_fault_broke_is_left_alone(self, blocks: IntegerPair) -> None:
        editor = self.weakened(blocks, 0.25)
        before = self.scales(editor.graph)
        graph, reference = editor.graph, read_graph(blocks.fp32)
        layer, counterpart = (Layer(g, g.operators[self.LAYER]) for g in (graph, reference))
        patches = np.random.default_rng(0).normal(size=(300, *layer.kernel, layer.input.shape[-1])).astype(np.float32)
        inputs = Inputs(patches.mean(axis=0, dtype=np.float64), np.zeros(0, np.int64), patches)
        assert not correct_scale(editor, layer, counterpart, inputs, inputs, 0)
        np.testing.assert_array_equal(self.scales(editor.graph), before)


class TestRefused:
    @pytest.mark.parametrize("count", [0, 4])
    def test_too_few_images(self, count: int, blocks: IntegerPair) -> None:
        with pytest.raises(InputError, match=rf"^{count} images are too few to refine .*; take 5 or more$"):
            refine_model(*opened(blocks), blocks.pixels[:count])

    @pytest.mark.parametrize("form", ["fp32", "dynamic", "fp16", "int16x8"])
    def test_files_that_are_not_full_integer(self, form: str, colour_models: Path) -> None:
        reference, candidate = (Model(colour_models / f"colours_{name}.tflite") for name in ("fp32", form))
        pixels = [np.full((32, 32, 3), 9 * i, np.uint8) for i in range(10)]
        with pytest.raises(InputError, match=rf"colours_{form}\.tflite: is not INT8: its op") as caught:
            refine_model(reference, candidate, pixels)
        assert "\n" not in str(caught.value)


def test_a_file_with_a_background_class_and_uint8_ends(coral_pair: tuple[Path, Path], shared: Path) -> None:
    """Coral's, with our float file: better on photos that it is not refined on, and the background left alone."""
    reference, candidate = (Model(path, runtime="ai-edge-litert") for path in coral_pair)
    photos = sorted((shared / "data" / "imagenet_samples").glob("*.jpg"))[::25]
    pixels = [reference.preprocessing.pixels(photo) for photo in photos]
    assert len(pixels) == 20
    content, result = refine_model(reference, candidate, pixels, **BIAS_ONLY)
    assert result.layers == 53
    assert result.kept
    before, after = read_graph(coral_pair[1]), Graph(content, "refined")
    assert len(before.content) == len(content)
    (classifier,) = (o for o in before.operators if before.tensors[o.outputs[0]].shape == (1, 1, 1, 1001))
    old, new = (graph.tensors[classifier.inputs[2]].data for graph in (before, after))
    assert old is not None
    assert new is not None
    assert old[0] == new[0]
    assert (old[1:] != new[1:]).mean() > 0.9


RUN = """
import sys, numpy as np
from edgeq.runtime import Model
model = Model(sys.argv[1], runtime=sys.argv[2], kernels=sys.argv[3])
rng = np.random.default_rng(0)
for _ in range(8):
    print(*model.invoke(rng.integers(-128, 128, model.input.shape).astype(np.int8)).ravel())
"""


def test_runs_on_every_runtime(refined: tuple[bytes, Refinement], tmp_path: Path) -> None:
    """In processes of their own, as they do not go together."""
    path = written(refined[0], tmp_path)
    found = {}
    for runtime in ("ai-edge-litert", "tflite-runtime"):
        usable = importlib.util.find_spec(RUNTIMES[runtime].partition(".")[0]) is not None
        if runtime == "tflite-runtime" and not (usable and np.__version__.startswith("1.")):
            continue
        for kernels in ("default", "reference"):
            command = [sys.executable, "-c", RUN, str(path), runtime, kernels]
            done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
            assert done.returncode == 0, done.stderr
            found[runtime, kernels] = np.array([line.split() for line in done.stdout.splitlines()], int)
    expected = found["ai-edge-litert", "reference"]
    assert expected.shape == (8, 6)
    assert np.ptp(expected, axis=0).max() > 20
    for (_, kernels), outputs in found.items():
        # Reference kernels too: the runtimes' FULLY_CONNECTED may differ by a step of the logits where it rounds.
        np.testing.assert_allclose(outputs, expected, atol=2 if kernels == "reference" else 8)


def test_operators_of_the_refined_file_run_alone_as_in_the_whole(
    refined: tuple[bytes, Refinement], blocks: IntegerPair
) -> None:
    graph = Graph(refined[0], "refined")
    _, model = opened(blocks)
    values = {graph.inputs[0]: np.concatenate([model.tensor(image) for image in blocks.pixels[:5]])}
    for operator in graph.operators:
        runner = OperatorRunner(graph, operator)
        values[operator.outputs[0]] = runner.run([values[index] for index in runner.inputs])
    whole = TappedRunner(graph, graph.outputs)
    for number in range(5):
        (found,) = whole.run(values[graph.inputs[0]][number : number + 1]).values()
        np.testing.assert_array_equal(found[0], values[graph.outputs[0]][number])
        del found
