"""The range of least error of an activation, against a search over the values themselves."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from conftest import IntegerPair

from edgeq.graphs import Graph, Tensor, pair_graphs, read_graph
from edgeq.graphs.editing import GraphEditor
from edgeq.quantization import Quantization
from edgeq.refinement.ranges import BINS, count_values, narrow_range, narrowable


@pytest.fixture
def editor(blocks: IntegerPair) -> GraphEditor:
    return GraphEditor(read_graph(blocks.int8))


def with_range(editor: GraphEditor, low: float, high: float) -> int:
    """Give the first bottleneck that range; its index."""
    index = editor.graph.operators[2].outputs[0]
    scale = (high - low) / 255
    editor.set_quantization(index, [scale], [int(np.clip(round(-128 - low / scale), -128, 127))])
    return index


def spread(kind: str, count: int = 60_000) -> np.ndarray:
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
def test_is_the_best_of_the_ranges_between_half_and_all(kind: str, editor: GraphEditor) -> None:
    values = spread(kind)
    index = with_range(editor, min(float(values.min()), 0.0), float(values.max()))
    before = editor.graph.tensors[index]
    low, high = before.quantization.real_range
    narrow_range(editor, index, count_values(values.repeat(3).reshape(-1, 1), before))  # one place in three counts
    after = editor.graph.tensors[index].quantization
    found = error(values, after)
    best = np.inf
    for share_low in np.linspace(0.5, 1, 26) if low < -1e-3 else (0.0,):
        for share_high in np.linspace(0.5, 1, 26):
            scale = (share_high * high - share_low * low) / 255
            zero_point = int(np.clip(round(-128 - share_low * low / scale), -128, 127))
            best = min(best, error(values, Quantization("int8", (scale,), (zero_point,))))
    assert found <= 1.03 * best  # the histogram has the values by their bins
    assert found <= 1.001 * error(values, before.quantization)
    # Never wider but for the zero point, which has to be an integer; and zero stays exact.
    step = after.scale[0]
    assert low - step < after.real_range[0] <= 0 <= after.real_range[1] < high + step
    assert after.dequantize(after.quantize(np.zeros(1)))[0] == 0
    if kind == "even":
        assert after.scale[0] == pytest.approx(before.quantization.scale[0], rel=0.03)
    if kind in ("normal", "long-tails"):
        assert after.scale[0] < 0.9 * before.quantization.scale[0]


def test_a_tensor_of_nothing_keeps_its_range(editor: GraphEditor) -> None:
    index = editor.graph.operators[2].outputs[0]
    before, content = editor.graph.tensors[index], editor.content
    low, high = before.quantization.real_range
    counts = np.zeros(BINS, np.int64)
    counts[[0, -1]] = 10_000  # all at the two ends
    narrow_range(editor, index, counts)
    after = editor.graph.tensors[index].quantization
    assert after.real_range == pytest.approx((low, high), abs=after.scale[0])
    assert len(editor.content) == len(content)


class TestCounting:
    def test_values_fall_where_a_histogram_has_them(self, blocks: IntegerPair) -> None:
        tensor = replace(read_graph(blocks.int8).tensors[0], quantization=Quantization("int8", (0.02,), (-10,)))
        values = np.random.default_rng(0).normal(0, 1, (1, 9, 10, 8)).astype(np.float32)
        counts = count_values(values, tensor)
        places = values.reshape(-1, 8)[::3]
        low, high = tensor.quantization.real_range
        expected, _ = np.histogram(places.clip(low, high), BINS, (low, high))
        assert counts.sum() == places.size
        assert np.abs(np.cumsum(counts) - np.cumsum(expected)).max() <= 2  # float32 at the edges of bins

    def test_every_channel_counts(self, blocks: IntegerPair) -> None:
        """Whatever their number: one channel of eight, whichever it is, is seen at its end of the range."""
        tensor: Tensor = read_graph(blocks.int8).tensors[0]
        tensor = replace(tensor, quantization=Quantization("int8", (0.02,), (0,)))
        for channels in (1, 3, 8, 24):
            for channel in range(channels):
                values = np.zeros((1, 6, 6, channels), np.float32)
                values[..., channel] = 99  # beyond the range: in the last bin
                assert count_values(values, tensor)[-1] == 12


class TestWhich:
    def test_linear_steps_but_not_clamped_ones_nor_the_classifier(self, blocks: IntegerPair) -> None:
        pair = pair_graphs(read_graph(blocks.fp32), read_graph(blocks.int8))
        found = narrowable(pair, GraphEditor(pair.candidate))
        assert [pair.candidate.makers[tensor.index].index for tensor in found.values()] == [2, 5, 6, 9]
        assert [pair.reference.makers[index].index for index in found] == [2, 5, 6, 9]

    def test_not_where_a_reader_s_bias_is_another_s_too(self, blocks: IntegerPair) -> None:
        from edgeq.graphs.packing import pack_model

        graph = read_graph(blocks.int8)
        main = graph.model.subgraphs[0]
        bias = main.tensors[main.operators[7].inputs[2]]
        main.tensors[main.operators[8].inputs[2]].buffer = bias.buffer  # both read the sum, operator 6
        pair = pair_graphs(read_graph(blocks.fp32), Graph(pack_model(graph.model, 0), "shared.tflite"))
        found = narrowable(pair, GraphEditor(pair.candidate))
        assert [pair.candidate.makers[tensor.index].index for tensor in found.values()] == [2, 5, 9]
