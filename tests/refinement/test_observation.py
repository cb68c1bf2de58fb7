"""One calibration pass: true ranges, the same record on any number of threads, held-out images only in the ranges."""

from __future__ import annotations

import numpy as np
import pytest
from conftest import IntegerPair

from edgeq.graphs import TappedRunner
from edgeq.refinement import Observation, observe
from edgeq.runtime import Model
from edgeq.tflite.graph import Graph, read_graph


@pytest.fixture(scope="module")
def graph(blocks: IntegerPair) -> Graph:
    return read_graph(blocks.fp32)


@pytest.fixture(scope="module")
def samples(blocks: IntegerPair) -> list[tuple[np.ndarray]]:
    model = Model(blocks.fp32)
    return [model.tensors(pixels) for pixels in blocks.pixels[:10]]


def assert_equal(first: Observation, second: Observation) -> None:
    assert first.ranges == second.ranges
    assert first.fitted_ranges == second.fitted_ranges
    for index, histogram in first.histograms.items():
        np.testing.assert_array_equal(histogram.counts, second.histograms[index].counts)
    for index, inputs in first.inputs.items():
        for name in ("mean", "positions", "patches"):
            np.testing.assert_array_equal(getattr(inputs, name), getattr(second.inputs[index], name))


def test_ranges_are_those_of_every_activation(graph: Graph, samples: list[tuple[np.ndarray]]) -> None:
    """Also of what an ADD overwrites in place, which TensorFlow's calibrator reads afterwards."""
    found = observe(graph, samples, all_activations=True, layers=False)
    indices = [*graph.inputs, *(index for operator in graph.operators for index in operator.outputs)]
    assert set(found.ranges) == set(indices)
    for index in indices:
        runner = TappedRunner(graph, [index])
        values = [np.array(runner.run(*sample)[index]) for sample in samples]
        assert found.ranges[index] == pytest.approx((min(0, np.min(values)), max(0, np.max(values))), rel=1e-5)
    assert (found.histograms, found.inputs) == ({}, {})


def test_the_same_on_any_number_of_threads(graph: Graph, samples: list[tuple[np.ndarray]]) -> None:
    alone = observe(graph, samples, held_out=[4, 9], threads=1)
    for threads in (2, 3, 16):
        assert_equal(observe(graph, samples, held_out=[4, 9], threads=threads), alone)


def test_images_held_out_widen_the_ranges_and_nothing_else(graph: Graph, samples: list[tuple[np.ndarray]]) -> None:
    loud = [*samples[:9], (samples[9][0] * 50,)]
    found = observe(graph, loud, held_out=[9], all_activations=True)
    without = observe(graph, samples[:9], all_activations=True)
    assert found.fitted_ranges == without.ranges
    assert found.ranges[graph.inputs[0]][1] > 10 * without.ranges[graph.inputs[0]][1]
    for index, inputs in without.inputs.items():
        np.testing.assert_array_equal(found.inputs[index].mean, inputs.mean)
        np.testing.assert_array_equal(found.inputs[index].patches, inputs.patches)


def test_outputs_are_those_of_the_model(graph: Graph, samples: list[tuple[np.ndarray]], blocks: IntegerPair) -> None:
    found = observe(graph, samples, threads=2)
    model = Model(blocks.fp32)
    for sample, (output,) in zip(samples, found.outputs, strict=True):
        np.testing.assert_allclose(output, model.invoke(*sample), atol=1e-6)


def test_progress_counts_every_image(graph: Graph, samples: list[tuple[np.ndarray]]) -> None:
    calls: list[tuple[str, int, int]] = []
    observe(graph, samples, threads=2, progress=lambda *call: calls.append(call))
    assert calls == [("Calibrating", done, 10) for done in range(11)]
