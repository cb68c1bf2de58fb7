"""Change constants and quantization parameters of a graph in place. All other bytes of the file stay unchanged."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.tflite import flatbuffer, schema
from edgeq.tflite.graph import Graph

__all__ = ["GraphEditor"]


class GraphEditor:
    """Writes constants and quantization parameters, both to a copy of the file's content and to the graph."""

    def __init__(self, graph: Graph) -> None:
        """Prepare a graph for editing.

        Args:
            graph: the graph to edit; its `tensors` and `model` change with every write.
        """
        self.graph = graph
        self._content = bytearray(graph.content)
        root = flatbuffer.root(self._content)
        self._buffers = root.tables(schema.Model.BUFFERS)
        self._tensors = root.tables(schema.Model.SUBGRAPHS)[0].tables(schema.Subgraph.TENSORS)
        # Converters store equal constants only once, so unrelated tensors can share a buffer.
        self._uses = Counter(tensor.buffer for part in graph.model.subgraphs for tensor in part.tensors)

    @property
    def content(self) -> bytes:
        """The edited content of the file."""
        return bytes(self._content)

    def owns_data(self, index: int) -> bool:
        """Return whether a constant can be changed safely: no other tensor uses its data, and one operator reads it."""
        buffer = self.graph.model.subgraphs[0].tensors[index].buffer
        return self._uses[buffer] == 1 and len(self.graph.consumers.get(index, ())) == 1

    def set_data(self, index: int, data: npt.NDArray[Any]) -> None:
        """Write a constant's values.

        Args:
            index: the tensor's index.
            data: the new values, of the tensor's shape and type.
        """
        tensor = self.graph.tensors[index]
        assert tensor.data is not None
        assert data.shape == tensor.shape
        assert data.dtype == tensor.data.dtype
        number = self.graph.model.subgraphs[0].tensors[index].buffer
        raw = np.frombuffer(np.ascontiguousarray(data).tobytes(), np.uint8)
        start, length = self._buffers[number].vector(schema.Buffer.DATA)
        buffer = self.graph.model.buffers[number]
        if not length:  # the data is outside the flatbuffer
            start = buffer.offset
        self._content[start : start + raw.size] = raw.tobytes()
        buffer.data = raw
        self.graph.tensors[index] = replace(tensor, data=data)

    def set_quantization(self, index: int, scale: npt.ArrayLike, zero_point: npt.ArrayLike | None = None) -> None:
        """Write a tensor's quantization parameters.

        Args:
            index: the tensor's index.
            scale: the new scales, positive; as many as the tensor has now (one, or one per channel).
            zero_point: the new zero points, as many as `scale`; None to leave them unchanged.
        """
        tensor = self.graph.tensors[index]
        table = self._tensors[index].table(schema.Tensor.QUANTIZATION)
        assert table is not None
        scales = np.asarray(scale, "<f4")
        start, length = table.vector(schema.Quantization.SCALE)
        assert length == scales.size
        assert np.all(np.isfinite(scales) & (scales > 0))
        self._content[start : start + scales.nbytes] = scales.tobytes()
        parameters = self.graph.model.subgraphs[0].tensors[index].quantization
        parameters.scale = scales
        changed = replace(tensor.quantization, scale=tuple(scales.ravel().tolist()))
        if zero_point is not None:
            points = np.asarray(zero_point, "<i8")
            start, length = table.vector(schema.Quantization.ZERO_POINT)
            assert length == points.size
            self._content[start : start + points.nbytes] = points.tobytes()
            parameters.zeroPoint = points
            changed = replace(changed, zero_point=tuple(points.ravel().tolist()))
        self.graph.tensors[index] = replace(tensor, quantization=changed)
