"""Write the files of one conversion: convert, add metadata, verify, refine."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeq.calibration import CalibrationSet, SampleSet
from edgeq.comparison.layers import measure_layers
from edgeq.comparison.pair import latency_ms
from edgeq.conversion.float_file import FloatFile
from edgeq.conversion.formats import Format
from edgeq.conversion.mixed import KeepFloat, KeptFloat, Measures, Mixed, Trial, make_mixed
from edgeq.conversion.quantizer import quantize_with_tensorflow, quantized_file
from edgeq.errors import EdgeqError
from edgeq.execution.process import WorkerProcess
from edgeq.files import sha256_of_file
from edgeq.graphs import GraphPair
from edgeq.inspection import TargetReport
from edgeq.networks import Network
from edgeq.networks.network import tool_versions
from edgeq.preprocessing import Preprocessing
from edgeq.progress import Progress
from edgeq.quiet import quiet
from edgeq.refinement import Observation, Refinement, held_out, observe, refine_content
from edgeq.refinement.observation import Sample
from edgeq.runtime import Model, TensorModel, available_cores, installed_runtimes, open_model
from edgeq.samples import SampleReader
from edgeq.tflite.extraction import with_signature
from edgeq.tflite.graph import read_graph
from edgeq.tflite.metadata import ModelMetadata
from edgeq.tflite.output_kind import read_output_kind
from edgeq.tflite.task import TENSORS

if TYPE_CHECKING:
    from edgeq.conversion.keras import FrozenNetwork

__all__ = ["ConvertedModel", "Writer"]

_RANKING_IMAGES = 8


@dataclass(frozen=True)
class ConvertedModel:
    """A .tflite file that was written and verified.

    Attributes:
        path: the file.
        format: the name of the file's format in ``edgeq.conversion.FORMATS``.
        size_bytes: the file's size in bytes.
        refinement: the result of refining the file; None if it was not refined.
        float_operators: names of the outputs of the operators that were left in float, sorted.
        kept_float: operators that ``auto`` left in float, step by step; empty for other files.
        remark: why the file could not be refined, or empty.
        targets: one report per requested target; empty for the float32 reference, unless it is the only file.
    """

    path: Path
    format: str
    size_bytes: int
    refinement: Refinement | None = None
    remark: str = ""
    float_operators: tuple[str, ...] = ()
    kept_float: tuple[KeptFloat, ...] = ()
    targets: tuple[TargetReport, ...] = ()


@dataclass(frozen=True)
class Writer:
    """Writes the files of one conversion, and verifies them in `worker`; for the attributes, see `convert_network`."""

    network: Network | FloatFile
    frozen: FrozenNetwork | FloatFile
    preprocessing: Preprocessing | None
    labels: tuple[str, ...]
    calibration: CalibrationSet | SampleSet | None
    io: str
    refine: bool
    keep_float: KeepFloat
    targets: Sequence[str]
    verbose: bool
    progress: Progress
    worker: WorkerProcess

    def write(self, forms: Sequence[Format], paths: Sequence[Path], parts: Sequence[Path]) -> list[ConvertedModel]:
        """Write the files to temporary `parts`, the float32 reference first, and verify each."""
        first = self._write_reference(forms[0], paths[0], parts[0])
        reference = open_model(parts[0], runtime=installed_runtimes()[0])
        facts = {"reference_sha256": sha256_of_file(parts[0])}
        models, observation = [first], None
        for form, path, part in zip(forms[1:], paths[1:], parts[1:], strict=True):
            if observation is None and self._needs_ranges(form):
                observation = self._observe(reference, refining=form.name == "int8" and self.refine)
            self.progress(f"Converting to {form.name}", 0, 1)
            file = _File(self, form, path.name, part, reference, observation, facts)
            models.append(file.write(path))
        return models

    def _write_reference(self, form: Format, path: Path, part: Path) -> ConvertedModel:
        """Write the float32 reference."""
        self.progress(f"Converting to {form.name}", 0, 1)
        with quiet(self.verbose):
            if isinstance(self.frozen, FloatFile):
                flatbuffer = self.frozen.graph.content
            else:
                assert self.preprocessing is not None
                flatbuffer = self.frozen.to_tflite(form, None, self.preprocessing, self.progress)
        part.write_bytes(flatbuffer)
        self.pack(form, path.stem, part, flatbuffer, read_output_kind(part) if self.reader is None else None, {})
        self.verify(form, path.name, part)
        return ConvertedModel(path, form.name, part.stat().st_size)

    def _needs_ranges(self, form: Format) -> bool:
        """Return whether a format is made from ranges; TensorFlow's converter calibrates by itself for int16x8."""
        return form.calibrated and (form.name == "int8" or isinstance(self.frozen, FloatFile))

    @property
    def reader(self) -> SampleReader | None:
        """The reader of samples, for a model of plain tensors."""
        return self.network.reader if isinstance(self.network, FloatFile) else None

    def _observe(self, reference: Model | TensorModel, refining: bool) -> Observation:
        """Run the float32 reference on the calibration data, once for quantizing and refining."""
        assert self.calibration is not None
        graph = self.frozen.graph if isinstance(self.frozen, FloatFile) else read_graph(reference.path)
        observation = observe(
            graph,
            _inputs(reference, self.calibration),
            held_out=held_out(len(self.calibration.samples)),
            all_activations=True,
            layers=refining,
            runtime=reference.runtime,
            threads=available_cores(),
            progress=self.progress,
        )
        # The input covers all pixel values, even if the calibration images do not: no image saturates there.
        if self.preprocessing is not None:
            observation.ranges[graph.inputs[0]] = self.preprocessing.real_range
        return observation

    def pack(
        self, form: Format, name: str, part: Path, flatbuffer: bytes, kind: str | None, more: dict[str, Any]
    ) -> None:
        """Write a file with its metadata."""
        from edgeq.tflite.metadata_writer import pack

        provenance = _provenance(self.network, form, self.io, self.calibration) | more
        task = None if self.reader is None else TENSORS
        metadata = ModelMetadata(self.labels, self.preprocessing, kind, provenance, task=task)
        part.write_bytes(pack(flatbuffer, name, metadata))

    def verify(self, form: Format, name: str, part: Path, in_float: frozenset[str] = frozenset()) -> None:
        """Verify a file in the runtime."""
        from edgeq.conversion.verification import verify

        self.progress(f"Verifying {form.name}", 0, 1)
        sample = self.calibration.samples[0] if self.calibration else self._blank()
        verify(self.worker, part, name, form, self.io, sample, in_float)

    def _blank(self) -> Any:
        """Return a grey image, or zeros for each input."""
        if self.reader is not None:
            return {spec.name: np.zeros(spec.shape, np.float32) for spec in self.reader.inputs}
        spec = self.preprocessing
        assert spec is not None
        return np.full((spec.height, spec.width, len(spec.channels)), 128, np.uint8)


@dataclass(frozen=True)
class _File:
    """One file to be written.

    Attributes:
        job: the conversion.
        form: the file's format.
        name: the file's name in messages.
        part: where to write it.
        reference: the float32 reference.
        observation: what the reference computed on the calibration images; None if the format does not need it.
        facts: provenance beside that of the conversion.
    """

    job: Writer
    form: Format
    name: str
    part: Path
    reference: Model | TensorModel
    observation: Observation | None
    facts: dict[str, Any]

    def write(self, path: Path) -> ConvertedModel:
        """Convert, verify and refine; `path` is where the file will be moved to."""
        job = self.job
        with quiet(job.verbose):
            made = self._flatbuffer()
        self._pack(made.content, made.names)
        job.verify(self.form, self.name, self.part, made.names)
        refinement, remark = self._refine() if self.form.name == "int8" and job.refine else (None, "")
        size = self.part.stat().st_size
        return ConvertedModel(path, self.form.name, size, refinement, remark, _short(made.names), made.steps)

    def _flatbuffer(self) -> Mixed:
        """Convert to the format."""
        job, form = self.job, self.form
        ranges = self.observation.ranges if self.observation else {}
        if form.name == "int8" and job.keep_float.operators:
            return self._mixed()
        if isinstance(job.frozen, FloatFile):
            return Mixed(quantized_file(job.frozen.graph, form.name, ranges, job.io))
        if form.name == "int8":
            return Mixed(quantize_with_tensorflow(read_graph(self.reference.path), ranges, job.io))
        assert not isinstance(job.calibration, SampleSet)
        assert job.preprocessing is not None
        return Mixed(job.frozen.to_tflite(form, job.calibration, job.preprocessing, job.progress, job.targets))

    def _mixed(self) -> Mixed:
        """Convert to INT8 with operators in float; always by ai-edge-quantizer."""
        job, observation = self.job, self.observation
        assert observation is not None
        graph = with_signature(read_graph(self.reference.path))
        return make_mixed(
            job.keep_float,
            graph,
            lambda operators: quantized_file(graph, "int8", observation.ranges, job.io, operators),
            Measures(self._attempt, self._agreement, self._ranked),
            job.progress,
        )

    def _pack(self, flatbuffer: bytes, in_float: Collection[str] = ()) -> None:
        more = self.facts | ({"float_operators": list(_short(in_float))} if in_float else {})
        self.job.pack(self.form, Path(self.name).stem, self.part, flatbuffer, self._kind, more)

    @property
    def _kind(self) -> str | None:
        if not isinstance(self.reference, Model):
            return None
        return "logits" if self.reference.gives_logits else "probabilities"

    def _checks(self) -> list[Any]:
        """Return the held-out calibration images or samples."""
        assert self.job.calibration is not None
        samples = self.job.calibration.samples
        return [samples[number] for number in held_out(len(samples))]

    @cached_property
    def _expected(self) -> list[Any]:
        """The float32 reference's answers for the held-out calibration images."""
        return self._answers(self.reference)

    def _answers(self, model: Model | TensorModel) -> list[Any]:
        tensors: Any = model.tensors  # of images or of other samples
        return [model.meaning(model.run(tensors(sample))) for sample in self._checks()]

    def _attempt(self, flatbuffer: bytes) -> Trial:
        """Write a version of the file and measure it."""
        self._pack(flatbuffer)
        model = open_model(self.part, runtime=self.reference.runtime)
        error = model.error(self._expected, self._answers(model))
        assert isinstance(model, Model)
        return Trial(flatbuffer, error, latency_ms([model])[0])

    def _agreement(self, flatbuffer: bytes) -> float:
        """Return the top-1 agreement of a version of the file, refined if the conversion refines."""
        self._pack(flatbuffer)
        if self.job.refine:
            self._refine()
        model = open_model(self.part, runtime=self.reference.runtime)
        pairs = zip(self._expected, self._answers(model), strict=True)
        return float(np.mean([np.argmax(expected) == np.argmax(found) for expected, found in pairs]))

    def _ranked(self, flatbuffer: bytes, pair: GraphPair) -> list[int]:
        """Return the operators of the full-integer file, those with the lowest SQNR alone first."""
        self._pack(flatbuffer)
        model = open_model(self.part, runtime=self.reference.runtime)
        pictures = [(pixels, pixels) for pixels in self._checks()[:_RANKING_IMAGES]]
        return [layer.index for layer in measure_layers(self.reference, model, pair, pictures) if layer.index >= 0]

    def _refine(self) -> tuple[Refinement | None, str]:
        """Refine the file in place; return the result, or why the network cannot be refined."""
        assert self.job.calibration is not None
        try:
            candidate = open_model(self.part, runtime=self.reference.runtime)
            content, refinement = refine_content(
                self.reference,
                candidate,
                self.job.calibration,
                observation=self.observation,
                progress=self.job.progress,
            )
        except EdgeqError as error:
            return None, f"not refined: {error}"
        self.part.write_bytes(content)
        return refinement, ""


def _short(names: Collection[str]) -> tuple[str, ...]:
    """Return names of tensors without those of the operators that were fused into theirs, sorted."""
    return tuple(sorted(name.partition(";")[0] for name in names))


def _inputs(reference: Any, calibration: CalibrationSet | SampleSet) -> list[Sample]:
    """Return the float32 reference's input tensors for each image or sample."""
    return [reference.tensors(sample) for sample in calibration.samples]


def _provenance(
    network: Network | FloatFile, form: Format, io: str, calibration: CalibrationSet | SampleSet | None
) -> dict[str, Any]:
    """Return how a file was made, without times and paths, so that the same inputs produce bit-identical files."""
    provenance: dict[str, Any] = {
        "network": network.name,
        "format": form.name,
        "parent": network.parent,
        "tools": network.tools() if isinstance(network, FloatFile) else tool_versions(),
    }
    if form.name == "int8":
        provenance["io"] = io
        provenance["refinement"] = None
    if form.calibrated and calibration is not None:
        provenance["calibration"] = calibration.provenance()
    return provenance
