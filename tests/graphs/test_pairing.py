"""Which operator is whose counterpart, and what is said of files that do not belong together."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import IntegerPair

from edgeq.errors import InputError
from edgeq.graphs import GraphPair, pair_graphs
from edgeq.graphs.pairing import WEIGHTED
from edgeq.tflite.graph import Graph, read_graph
from edgeq.tflite.packing import pack_model

schema = pytest.importorskip("ai_edge_litert.schema_py_generated")


def changed(path: Path, change: Callable[[Any], None], name: str = "changed.tflite") -> Graph:
    """A file's graph after a change to the schema's objects."""
    model = schema.ModelT.InitFromPackedBuf(path.read_bytes(), 0)
    change(model)
    return Graph(pack_model(model, 0), name)


def weight_correlations(pair: GraphPair) -> list[float]:
    """How alike the weights of counterparts are: near 1 where the second was rounded from the first."""
    found = []
    for match in pair.operators:
        if match.reference.name in WEIGHTED:
            exact = pair.reference.tensors[match.reference.inputs[1]].dequantize().ravel()
            rounded = pair.candidate.tensors[match.candidate.inputs[1]].dequantize().ravel()
            found.append(float(np.corrcoef(exact, rounded[rounded.size - exact.size :])[0, 1]))
    return found


class TestPairs:
    def test_of_one_converter(self, blocks: IntegerPair) -> None:
        pair = pair_graphs(read_graph(blocks.fp32), read_graph(blocks.int8))
        assert [m.reference for m in pair.operators] == list(pair.reference.operators)
        assert {m.candidate.index for m in pair.operators} == {o.index for o in pair.candidate.operators}
        assert {m.extra_channels for m in pair.operators} == {0}
        assert min(weight_correlations(pair)) > 0.999

    @pytest.mark.parametrize(
        "name", [("vww_96_float", "vww_96_int8"), ("pretrainedResnet", "pretrainedResnet_quant")], ids=lambda n: n[0]
    )
    def test_of_mlperf_tiny(self, name: tuple[str, str], shared: Path) -> None:
        pair = pair_graphs(*(read_graph(shared / f"models/mlcommons_tiny/{n}.tflite") for n in name))
        correlations = weight_correlations(pair)
        assert len(correlations) == sum(o.name in WEIGHTED for o in pair.reference.operators) > 8
        assert min(correlations) > 0.99

    @pytest.mark.slow
    def test_of_coral_with_a_background_class_and_another_classifier(self, coral_pair: tuple[Path, Path]) -> None:
        """Quantized by others from the same weights: 1001 classes by a 1x1 CONV_2D, uint8 at both ends."""
        pair = pair_graphs(*map(read_graph, coral_pair))
        correlations = weight_correlations(pair)
        assert len(correlations) == 53
        assert min(correlations) > 0.98
        assert [m.extra_channels for m in pair.operators if m.extra_channels] == [1, 1]  # the classifier, the softmax
        (classifier,) = (m for m in pair.operators if m.reference.name == "FULLY_CONNECTED")
        assert (classifier.candidate.name, classifier.extra_channels) == ("CONV_2D", 1)

    def test_branches_that_read_one_tensor_are_told_apart_by_their_weights(self, blocks: IntegerPair) -> None:
        """The two steps of one shape in the other order, as another converter may have them."""
        reference = read_graph(blocks.fp32)
        first = next(
            o.index for o in reference.operators if len(reference.consumers[o.outputs[0]]) == 2 and o.index > 5
        )

        def swap(model: Any) -> None:
            steps = model.subgraphs[0].operators
            steps[first + 1], steps[first + 2] = steps[first + 2], steps[first + 1]

        names = [o.name for o in reference.operators[first : first + 4]]
        assert names == ["ADD", "CONV_2D", "CONV_2D", "ADD"]
        pair = pair_graphs(reference, changed(blocks.int8, swap))
        assert min(weight_correlations(pair)) > 0.999
        order = [m.candidate.index for m in pair.operators]
        assert order[first + 1 : first + 3] == [first + 2, first + 1]


class TestMismatches:
    def check(self, reference: Graph, candidate: Graph, message: str) -> None:
        with pytest.raises(InputError, match=message) as caught:
            pair_graphs(reference, candidate)
        assert str(caught.value).startswith(f"{reference.path} and {candidate.path} do not correspond: ")
        assert "\n" not in str(caught.value)

    def test_another_architecture(self, blocks: IntegerPair, colour_models: Path) -> None:
        other = read_graph(colour_models / "colours_int8.tflite")
        self.check(
            read_graph(blocks.fp32), other, r"first has operator 0 \(CONV_2D to 16x16x8\), but the second operator 0 \("
        )

    def test_a_step_that_the_second_lacks(self, blocks: IntegerPair) -> None:
        def drop_softmax(model: Any) -> None:
            main = model.subgraphs[0]
            main.outputs = np.array([main.operators.pop().inputs[0]])

        reference, candidate = read_graph(blocks.fp32), changed(blocks.int8, drop_softmax)
        self.check(
            reference,
            candidate,
            r"first has operator 13 \(SOFTMAX to 6\), but the second no operator that reads the same tensor",
        )

    def test_a_step_that_the_first_lacks(self, blocks: IntegerPair) -> None:
        def drop_softmax(model: Any) -> None:
            main = model.subgraphs[0]
            main.outputs = np.array([main.operators.pop().inputs[0]])

        reference = changed(blocks.fp32, drop_softmax)
        self.check(reference, read_graph(blocks.int8), r"no counterpart to operator 13 \(SOFTMAX to 6\) of the second")

    def test_another_residual(self, blocks: IntegerPair) -> None:
        """The sum reads the first convolution's output in place of the bottleneck's."""

        def rewire(model: Any) -> None:
            steps = model.subgraphs[0].operators
            steps[6].inputs = np.array([steps[0].outputs[0], steps[6].inputs[1]])

        self.check(
            read_graph(blocks.fp32), changed(blocks.int8, rewire), r"first has operator 6 \(ADD to 16x16x8\), but the"
        )

    def test_other_weights(self, blocks: IntegerPair) -> None:
        def shuffle(model: Any) -> None:
            rng = np.random.default_rng(0)
            for operator in model.subgraphs[0].operators:
                if len(operator.inputs) == 3:
                    buffer = model.buffers[model.subgraphs[0].tensors[operator.inputs[1]].buffer]
                    buffer.data = rng.permutation(buffer.data)

        self.check(read_graph(blocks.fp32), changed(blocks.int8, shuffle), "their weights have nothing in common")

    def test_an_open_batch(self, blocks: IntegerPair) -> None:
        def open_batch(model: Any) -> None:
            for tensor in model.subgraphs[0].tensors:
                if tensor.shape is not None and len(tensor.shape) == 4 and tensor.shape[1] == 16:
                    tensor.shape = np.array([2, *tensor.shape[1:]], np.int32)

        with pytest.raises(InputError, match=r"changed.tflite: operator 0 .* does not make activations of one image"):
            pair_graphs(changed(blocks.fp32, open_batch), read_graph(blocks.int8))
