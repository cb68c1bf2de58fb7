"""The range of least error of an activation, against a search over the values themselves."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from conftest import IntegerPair

from edgeq.graphs import pair_graphs
from edgeq.quantization import Quantization
from edgeq.refinement import refine_model
from edgeq.refinement.histogram import Histogram
from edgeq.refinement.ranges import best_range, range_pairs
from edgeq.runtime import Model
from edgeq.tflite.editing import GraphEditor
from edgeq.tflite.graph import Graph, Tensor, read_graph


@pytest.fixture
def editor(blocks: IntegerPair) -> GraphEditor:
    return GraphEditor(read_graph(blocks.int8))


def with_range(editor: GraphEditor, low: float, high: float, operator: int = 2) -> Tensor:
    """Give what an operator makes (the first bottleneck) that range."""
    index = editor.graph.operators[operator].outputs[0]
    scale = (high - low) / 255
    editor.set_quantization(index, [scale], [int(np.clip(round(-128 - low / scale), -128, 127))])
    return editor.graph.tensors[index]


def fitted(editor: GraphEditor, tensor: Tensor, values: np.ndarray, narrowed: bool = True) -> Quantization:
    """What a tensor's quantization becomes, given values."""
    low, high = best_range(tensor.quantization.real_range, observed(values), histogram(values) if narrowed else None)
    scale = (high - low) / 255
    editor.set_quantization(tensor.index, [scale], [int(np.clip(round(-128 - low / scale), -128, 127))])
    return editor.graph.tensors[tensor.index].quantization


def observed(values: np.ndarray) -> tuple[float, float]:
    return float(values.min()), float(values.max())


def histogram(values: np.ndarray) -> Histogram:
    found = Histogram()
    for part in np.array_split(values.repeat(3).reshape(-1, 1), 4):  # one place in three counts
        found.add(Histogram.counts_of(part))
    return found


def drawn(kind: str, count: int = 60_000) -> np.ndarray:
    rng = np.random.default_rng(0)
    values = {
        "normal": rng.normal(0, 1, count),
        "long-tails": rng.laplace(0, 0.4, count),
        "one-tail": rng.exponential(0.6, count) - 0.5,
        "positive": rng.exponential(0.8, count),
        "even": rng.uniform(-4, 4, count),
    }[kind]
    return values.clip(-8, 8).astype(np.float32)


def error(values: np.ndarray, quantization: Quantization) -> float:
    """Mean squared error of values that are quantized and back."""
    return float(np.mean((quantization.dequantize(quantization.quantize(values)) - values) ** 2))


KINDS = ("normal", "long-tails", "one-tail", "positive", "even")


@pytest.mark.parametrize("kind", KINDS)
class TestNarrowed:
    def test_is_the_best_of_the_ranges_between_half_and_all(self, kind: str, editor: GraphEditor) -> None:
        values = drawn(kind)
        before = with_range(editor, min(float(values.min()), 0.0), float(values.max())).quantization
        low, high = before.real_range
        after = fitted(editor, editor.graph.tensors[editor.graph.operators[2].outputs[0]], values)
        found = error(values, after)
        best = np.inf
        for share_low in np.linspace(0.5, 1, 26) if low < -1e-3 else (0.0,):
            for share_high in np.linspace(0.5, 1, 26):
                scale = (share_high * high - share_low * low) / 255
                zero_point = int(np.clip(round(-128 - share_low * low / scale), -128, 127))
                best = min(best, error(values, Quantization("int8", (scale,), (zero_point,))))
        assert found <= 1.03 * best  # the histogram has the values by their bins
        assert found <= 1.001 * error(values, before)
        # Never wider but for the zero point, which has to be an integer; and zero stays exact.
        step = after.scale[0]
        assert low - step < after.real_range[0] <= 0 <= after.real_range[1] < high + step
        assert after.dequantize(after.quantize(np.zeros(1)))[0] == 0
        if kind == "even":
            assert after.scale[0] == pytest.approx(before.scale[0], rel=0.03)
        if kind in ("normal", "long-tails"):
            assert after.scale[0] < 0.9 * before.scale[0]

    def test_of_another_range_it_is_the_same(self, kind: str, editor: GraphEditor) -> None:
        """A range calibrated on other images, half or a third of what it should be, is widened to the same end."""
        values = drawn(kind)
        low, high = min(float(values.min()), 0.0), float(values.max())
        wanted = fitted(editor, with_range(editor, low, high), values)
        for part in (0.5, 0.3):
            found = fitted(editor, with_range(editor, part * low, part * high), values)
            assert found.scale[0] == pytest.approx(wanted.scale[0], rel=0.05)
            assert error(values, found) <= 1.05 * error(values, wanted)


class TestWidened:
    def test_to_the_extremes_and_no_narrower(self, editor: GraphEditor) -> None:
        values = drawn("positive")
        tensor = with_range(editor, 0, 2)
        found = fitted(editor, tensor, values, narrowed=False)
        assert found.real_range == pytest.approx((0, float(values.max())), rel=1e-3)
        assert fitted(editor, editor.graph.tensors[tensor.index], 0.1 * values, narrowed=False) == found

    def test_a_model_calibrated_on_other_images_is_corrected(self, blocks: IntegerPair, tmp_path: Path) -> None:
        """One whose ranges are less than half of what the images take, also where activations are clamped."""
        editor = GraphEditor(read_graph(blocks.int8))
        graph = editor.graph
        for number in (0, 1, 2, 5):
            operator, following = graph.operators[number], graph.operators[number + 1]
            tensor = graph.tensors[operator.outputs[0]]
            low, high = tensor.quantization.real_range
            with_range(editor, 0.4 * low, 0.4 * high, number)
            if following.name != "ADD":  # whose bias would not fit
                bias = following.inputs[2]
                scale = 0.4 * np.asarray(graph.tensors[bias].quantization.scale)
                data = graph.tensors[bias].data
                assert data is not None
                editor.set_quantization(bias, scale)
                editor.set_data(bias, np.rint(data / 0.4).astype(np.int32))
        (tmp_path / "narrow.tflite").write_bytes(editor.content)
        reference, candidate = Model(blocks.fp32), Model(tmp_path / "narrow.tflite")
        content, result = refine_model(reference, candidate, blocks.pixels)
        assert result.error_before > 0.1
        assert result.error_after < 0.25 * result.error_before
        _, without = refine_model(reference, candidate, blocks.pixels, methods=())
        assert result.error_after < 0.5 * without.error_after
        ranges = [g.tensors[g.operators[0].outputs[0]].quantization.real_range for g in (graph, Graph(content, "m"))]
        assert ranges[1][1] > 2 * ranges[0][1]


def test_a_tensor_of_nothing_keeps_its_range() -> None:
    assert best_range((-1.0, 2.0), (0.0, 0.0), Histogram()) == (-1.0, 2.0)
    assert best_range((-1.0, 2.0), (0.0, 0.0), None) == (-1.0, 2.0)


def test_values_of_any_size_are_counted() -> None:
    """Within 1.6 %, whatever their size: bins need no range."""
    values = np.array([0, 1e-30, -3e-5, 0.7, -1, 123.4, 8e12, np.inf, np.nan], np.float32)
    found = Histogram()
    found.add(Histogram.counts_of(values.repeat(3).reshape(-1, 1)))
    middles, counts = found.values()
    assert middles == pytest.approx(np.sort(values[np.isfinite(values)]), rel=0.016, abs=1e-37)
    assert counts.tolist() == [1] * 7


@pytest.mark.parametrize("narrowed", [True, False], ids=["narrowed", "widened"])
def test_every_channel_counts(narrowed: bool) -> None:
    """Whatever their number: one channel of eight, whichever it is, is seen beyond the range."""
    for channels in (1, 3, 8, 24):
        for channel in range(channels):
            values = np.zeros((1, 6, 6, channels), np.float32)
            values[..., channel] = 9
            found = Histogram()
            found.add(Histogram.counts_of(values))
            ends = best_range((-2.56, 2.54), observed(values), found if narrowed else None)
            assert ends[1] == pytest.approx(9, rel=0.01)


class TestWhich:
    def test_what_layers_and_sums_make(self, blocks: IntegerPair) -> None:
        pair = pair_graphs(read_graph(blocks.fp32), read_graph(blocks.int8))
        found = list(range_pairs(pair, GraphEditor(pair.candidate)))
        producers = [pair.reference.producers[index].index for index, _, _ in found]
        assert producers == [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 12]
        narrowed = [pair.reference.producers[index].index for index, _, narrow in found if narrow]
        assert narrowed == [2, 5, 6, 9]  # linear steps, but not clamped ones nor the classifier

    def test_not_where_a_reader_s_bias_is_another_s_too(self, blocks: IntegerPair) -> None:
        from edgeq.tflite.packing import pack_model

        graph = read_graph(blocks.int8)
        main = graph.model.subgraphs[0]
        bias = main.tensors[main.operators[7].inputs[2]]
        main.tensors[main.operators[8].inputs[2]].buffer = bias.buffer  # both read the sum, operator 6
        pair = pair_graphs(read_graph(blocks.fp32), Graph(pack_model(graph.model, 0), "shared.tflite"))
        found = range_pairs(pair, GraphEditor(pair.candidate))
        assert [pair.reference.producers[index].index for index, _, _ in found] == [0, 1, 2, 3, 4, 5, 7, 8, 9, 10, 12]
