"""Open a float .tflite file, made by any tool, as a source of conversion."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from importlib import metadata
from pathlib import Path
from typing import Any

import edgeq
from edgeq.conversion.quantizer import require_ai_edge_quantizer
from edgeq.errors import ConversionError, InputError, ModelError, UnknownNormalizationError
from edgeq.files import sha256_of_file, sha256_of_folder
from edgeq.graphs.static import is_static, make_static
from edgeq.preprocessing import Preprocessing
from edgeq.runtime import Model, TensorSpec
from edgeq.runtime.admission import admit
from edgeq.runtime.backends import choose_runtime
from edgeq.samples import SampleReader
from edgeq.tflite.extraction import extract, signature_names
from edgeq.tflite.graph import Graph, Operator, is_builtin, read_graph
from edgeq.tflite.metadata import ModelMetadata, Overrides, read_metadata
from edgeq.tflite.task import TENSORS, read_task

__all__ = ["FloatFile", "open_float_file"]

_SUFFIXES = ("_fp32", "_float32", "_float")
_ENDS = ("SOFTMAX", "LOGISTIC")
_OPEN = -1


@dataclass(frozen=True)
class FloatFile:
    """A model in a float32 .tflite file: an image classifier or, if it has a `reader`, one of plain tensors.

    Attributes:
        path: the file.
        name: prefix of the names of the files to write: the file's stem without ``_fp32`` or ``_float``.
        classes: the number of classes; 0 for plain tensors.
        parent: provenance of the file: plain JSON data with its digest.
        labels: the classes' names, one per class, or empty.
        preprocessing: how images become the input; None for a model of plain tensors that takes no images.
        held_out: empty; for networks from `edgeq train`, see `Network`.
        remarks: notes to the user; each is a sentence.
        graph: the file's graph, static and with batch size 1.
        reader: reads samples for a model of plain tensors; None for a classifier.
    """

    path: Path
    name: str
    classes: int
    parent: dict[str, Any]
    labels: tuple[str, ...]
    preprocessing: Preprocessing | None
    held_out: frozenset[str]
    graph: Graph = field(repr=False)
    remarks: tuple[str, ...] = ()
    reader: SampleReader | None = None

    def preprocessing_with(self, overrides: Overrides, source: str | None) -> Preprocessing | None:
        """Return the preprocessing, which includes the user's settings already."""
        return self.preprocessing

    def exported_from(self, source: Path, remarks: tuple[str, ...]) -> FloatFile:
        """Return this source as one that was exported from another file, which the provenance then names."""
        digest = sha256_of_folder(source) if source.is_dir() else sha256_of_file(source)
        parent = {"file": source.name, "sha256": digest}
        reader = self.reader and replace(self.reader, model=str(source))  # its messages name the source
        return replace(
            self,
            path=source,
            name=source.name if source.is_dir() else source.stem,
            parent=parent,
            remarks=remarks,
            reader=reader,
        )

    def tools(self) -> dict[str, str]:
        """Return the versions of the packages that determine the files' content, for their provenance."""
        names = ("ai-edge-quantizer", "ai-edge-litert", "numpy")
        return {"edgeq": edgeq.__version__} | {name: metadata.version(name) for name in names}

    def without_softmax(self) -> FloatFile:
        """Return the source without the softmax or sigmoid at its end.

        Raises:
            ConversionError: it does not end in one.
        """
        last = self.graph.producers[self.graph.outputs[0]]
        if last.name not in _ENDS:
            raise ConversionError(
                f"{self.path}: outputs logits already: it ends in {last.name}, not in a softmax or sigmoid"
            )
        operators = [operator for operator in self.graph.operators if operator is not last]
        inputs, outputs = signature_names(self.graph)
        content = extract(self.graph, operators, inputs, dict.fromkeys(outputs, last.inputs[0]))
        return replace(self, graph=Graph(content, self.path))


def open_float_file(
    path: str | Path, overrides: Overrides, size: tuple[int, int] | None = None, task: str | None = None
) -> FloatFile:
    """Open a float32 .tflite file, and make its shapes static.

    Args:
        path: the file.
        overrides: preprocessing and labels to use instead of the file's.
        size: (height, width) of the input in pixels, for a file that leaves them open.
        task: what the outputs mean, one of ``edgeq.tflite.task.TASKS``; None to read it from the file.

    Raises:
        InputError: the file does not exist or does not state its normalization, or its size is another.
        ModelError: the file is no float32 model, or no runtime can load it.
        EdgeqError: ai-edge-quantizer is not installed.
    """
    source = Path(path)
    if not source.is_file():
        raise InputError(f"{path}: no such model")
    require_ai_edge_quantizer()
    graph = read_graph(source)
    _check_float(graph)
    admit(source, choose_runtime())
    graph = _static(graph, size)
    stated = read_metadata(source)
    if read_task(source, task, stated) == TENSORS:
        return _of_tensors(source, graph, stated, overrides)
    try:
        model = Model(source, overrides=overrides, metadata=stated)
    except UnknownNormalizationError:
        raise InputError(
            f"{path}: does not say how its input is normalized; give what it was trained with: --normalize -1..1, "
            "0..1, 0..255, imagenet or MEAN/STD"
        ) from None
    spec = model.preprocessing
    height, width = graph.tensors[graph.inputs[0]].shape[slice(1, 3) if model.layout == "NHWC" else slice(2, 4)]
    if size is not None and size != (height, width):
        raise InputError(f"{path}: is made for {width}x{height} pixels, not {size[1]}x{size[0]}; omit --res")
    return FloatFile(
        path=source,
        name=_name(source),
        classes=model.classes,
        parent={"file": source.name, "sha256": sha256_of_file(source)} | model.metadata.provenance.get("parent", {}),
        labels=model.labels,
        preprocessing=replace(spec, height=height, width=width),
        held_out=frozenset(model.metadata.held_out),
        graph=graph,
    )


def _of_tensors(source: Path, graph: Graph, stated: ModelMetadata, overrides: Overrides) -> FloatFile:
    """Make a source of plain tensors of a static graph."""
    tensors = {name: graph.tensors[index] for name, index in signature_names(graph)[0].items()}
    inputs = [TensorSpec(t.index, t.shape, t.quantization, name) for name, t in tensors.items()]
    reader = SampleReader.of(source, inputs, stated, overrides)
    return FloatFile(
        path=source,
        name=_name(source),
        classes=0,
        parent={"file": source.name, "sha256": sha256_of_file(source)} | stated.provenance.get("parent", {}),
        labels=(),
        preprocessing=reader.preprocessing,
        held_out=frozenset(),
        graph=graph,
        reader=reader,
    )


def _name(path: Path) -> str:
    for suffix in _SUFFIXES:
        if path.stem.endswith(suffix) and path.stem != suffix:
            return path.stem.removesuffix(suffix)
    return path.stem


def _check_float(graph: Graph) -> None:
    """Raise a ModelError for a file that is not float32 throughout."""
    if len(graph.model.subgraphs) > 1:
        raise ModelError(f"{graph.path}: has {len(graph.model.subgraphs)} graphs (control flow); only one is supported")
    for operator in graph.operators:
        if not is_builtin(operator.name):
            raise ModelError(
                f"{graph.path}: has the custom operator {operator.name} (operator {operator.index}), which cannot be "
                "quantized"
            )
        computed = graph.dtypes((*graph.activations(operator), *operator.outputs))
        if computed & {"int8", "uint8", "int16"}:
            raise ModelError(
                f"{graph.path}: is quantized already: its operator {operator.index} ({operator.name}) works on "
                f"{', '.join(sorted(computed))}; give the float model that it was made from, or improve it with edgeq "
                "refine"
            )
        constants = graph.dtypes(index for index in operator.inputs if graph.is_constant(index))
        if constants & {"int8", "uint8", "void"} and "float32" in computed:
            raise ModelError(
                f"{graph.path}: has 8-bit weights (dynamic-range quantization), see its operator {operator.index} "
                f"({operator.name}); give the float32 model that it was made from"
            )
        if "float16" in constants | computed:
            raise ModelError(f"{graph.path}: has float16 weights; give the float32 model that it was made from")


def _static(graph: Graph, size: tuple[int, int] | None) -> Graph:
    """Return the graph at batch size 1, without open dimensions, with a signature."""
    operators: Sequence[Operator] = graph.operators
    shapes = {index: _fixed(graph, index, size) for index in graph.inputs}
    if not is_static(graph):
        operators = make_static(graph, shapes)
    for operator in operators:
        if operator.name == "PADV2":  # onnx2tf writes the padding value as a vector, which ai-edge-quantizer rejects
            value = graph.tensors[operator.inputs[2]]
            graph.tensors[value.index] = replace(value, shape=())
    return Graph(extract(graph, operators, *signature_names(graph)), graph.path)


def _fixed(graph: Graph, index: int, size: tuple[int, int] | None) -> tuple[int, ...]:
    """Return an input's shape with batch size 1 and the given height and width where the file leaves them open."""
    shape = list(graph.open_shape(index))
    if shape and shape[0] == _OPEN:
        shape[0] = 1
    if shape and shape[0] != 1:
        raise ModelError(f"{graph.path}: takes batches of {shape[0]}; export it with a batch of 1 or an open batch")
    if _OPEN in shape and size is not None and len(shape) == 4:
        first = 2 if shape[1] in (1, 3) else 1
        for axis, pixels in zip((first, first + 1), size, strict=True):
            shape[axis] = pixels if shape[axis] == _OPEN else shape[axis]
    if _OPEN in shape:
        advice = "give --res" if len(shape) == 4 else f"export it with a fixed shape in place of {tuple(shape)}"
        raise InputError(f"{graph.path}: leaves its input size open; {advice}")
    return tuple(shape)
