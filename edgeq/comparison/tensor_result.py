"""The results of a comparison of plain tensors. These classes define the JSON that ``edgeq compare --json`` writes."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

from edgeq.comparison.result import LayerDrift

__all__ = ["OutputDrift", "SampleDrift", "TensorComparison", "TensorModelResult"]


@dataclass(frozen=True)
class TensorModelResult:
    """One of the two models.

    Attributes:
        path: the model's file.
        sha256: SHA-256 digest of the file, in hexadecimal.
        runtime: name and version of the runtime that ran the model.
        latency_ms: median time of one inference on one thread, in milliseconds.
        size_bytes: the file's size in bytes.
    """

    path: str
    sha256: str
    runtime: str
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class OutputDrift:
    """The drift of one output, over all samples. Differences are in the output's real units.

    Attributes:
        name: the output's name.
        shape: the output's shape, including the batch dimension.
        sqnr_db: signal-to-quantization-noise ratio (SQNR): power of the reference's output over the power of the
            difference, in decibels; None if there is no difference.
        cosine: cosine similarity of the two outputs, in -1..1.
        mean_difference: mean absolute difference.
        max_difference: largest absolute difference.
        error: norm of the difference divided by the norm of the reference's output; 0 if there is no difference.
        low: smallest value of the reference's output.
        high: largest value of the reference's output.
    """

    name: str
    shape: tuple[int, ...]
    sqnr_db: float | None
    cosine: float
    mean_difference: float
    max_difference: float
    error: float
    low: float
    high: float


@dataclass(frozen=True)
class SampleDrift:
    """The drift on one sample.

    Attributes:
        file: the sample's file, or the file and the sample's number, as in ``data.npz[3]``.
        error: norm of the difference divided by the norm of the reference's output, mean over the outputs.
        sqnr_db: SQNR of each output in decibels, in the order of the outputs; None if there is no difference.
        max_difference: largest absolute difference of each output.
    """

    file: str
    error: float
    sqnr_db: tuple[float | None, ...]
    max_difference: tuple[float, ...]


@dataclass(frozen=True)
class TensorComparison:
    """The measured drift of a candidate model from its reference, for models of plain tensors.

    Attributes:
        samples: number of samples compared.
        skipped: files that could not be read, each with the reason.
        reference: the model that was compared with, usually float32.
        candidate: the measured model, usually INT8.
        outputs: the drift of each output, in the reference's order.
        worst: the drift on each sample, the largest error first.
        calibration_overlap: number of samples that one of the models was calibrated or refined on, where drift is
            likely to be underestimated.
        notes: notes on the models and the samples; each is a sentence.
        layers: drift layer by layer, the lowest SQNR alone first; None if it was not requested.
        faults: what is broken according to the layers, in the order of the network; sentences without a full stop.
        advice: what to try next; sentences without a full stop.
    """

    samples: int
    skipped: tuple[tuple[str, str], ...]
    reference: TensorModelResult
    candidate: TensorModelResult
    outputs: tuple[OutputDrift, ...]
    worst: tuple[SampleDrift, ...]
    calibration_overlap: int
    notes: tuple[str, ...]
    layers: tuple[LayerDrift, ...] | None = None
    faults: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()

    @property
    def sqnr_db(self) -> float | None:
        """The lowest SQNR of any output in decibels; None if there is no difference."""
        return min((output.sqnr_db for output in self.outputs if output.sqnr_db is not None), default=None)

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data, with ``"task": "tensors"``."""
        return {"task": "tensors", **asdict(self)}

    def missed_limits(self, min_sqnr: float | None = None) -> list[str]:
        """Check the comparison against a limit, for example before a release.

        Args:
            min_sqnr: smallest acceptable SQNR of any output in decibels; None for no limit.

        Returns:
            One sentence per output that misses the limit; empty if all meet it.
        """
        if min_sqnr is None:
            return []
        return [
            f"SQNR of {output.name} is {output.sqnr_db:.2f} dB, less than {min_sqnr:g} dB"
            for output in self.outputs
            if output.sqnr_db is not None and not output.sqnr_db >= min_sqnr
        ]
