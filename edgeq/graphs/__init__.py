"""What is inside a .tflite file: its operators and tensors, the counterparts in another file, parts of it run alone."""

from __future__ import annotations

from edgeq.graphs.graph import Graph, Operator, Tensor, read_graph
from edgeq.graphs.pairing import GraphPair, OperatorPair, pair_graphs
from edgeq.graphs.running import OperatorRunner, TappedRunner

__all__ = [
    "Graph",
    "GraphPair",
    "Operator",
    "OperatorPair",
    "OperatorRunner",
    "TappedRunner",
    "Tensor",
    "pair_graphs",
    "read_graph",
]
