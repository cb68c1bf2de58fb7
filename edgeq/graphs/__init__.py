"""Pair the operators of two .tflite graphs, and run single operators or read inner activations."""

from __future__ import annotations

from edgeq.graphs.pairing import GraphPair, OperatorPair, pair_graphs
from edgeq.graphs.running import OperatorRunner, TappedRunner

__all__ = ["GraphPair", "OperatorPair", "OperatorRunner", "TappedRunner", "pair_graphs"]
