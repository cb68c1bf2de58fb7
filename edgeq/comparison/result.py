"""The results of a comparison. These classes define the JSON that ``edgeq compare --json`` writes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgeq.errors import InputError

__all__ = [
    "PROBABILITY_BINS",
    "ClassDrift",
    "Comparison",
    "Flip",
    "Histogram",
    "LayerDrift",
    "ModelResult",
    "PredictedClass",
]

PROBABILITY_BINS = 20
"""Number of equal parts of [0, 1] in `Comparison.top_probabilities`."""


@dataclass(frozen=True)
class ModelResult:
    """The results of one of the two models.

    Attributes:
        path: the model's file.
        sha256: SHA-256 digest of the file, in hexadecimal.
        runtime: name and version of the runtime that ran the model.
        top1: top-1 accuracy on the labelled images, in 0..1; None if no image is labelled.
        top5: top-5 accuracy, likewise.
        latency_ms: median time of one inference on one thread, in milliseconds, without preprocessing.
        size_bytes: the file's size in bytes.
    """

    path: str
    sha256: str
    runtime: str
    top1: float | None
    top5: float | None
    latency_ms: float
    size_bytes: int


@dataclass(frozen=True)
class Flip:
    """An image whose most probable class differs between the two models.

    Attributes:
        file: the image's path.
        label: name of the image's true class; None if unknown.
        reference: name of the class that the reference predicts.
        candidate: name of the class that the candidate predicts.
        reference_probability: the reference's probability of the class that it predicts.
        candidate_probability: the candidate's probability of the class that it predicts.
        reference_margin: the reference's probability of the class that it predicts, minus its probability of the
            candidate's class. If it is small, the reference itself was undecided.
        candidate_margin: the candidate's probability of the class that it predicts, minus its probability of the
            reference's class.
    """

    file: str
    label: str | None
    reference: str
    candidate: str
    reference_probability: float
    candidate_probability: float
    reference_margin: float
    candidate_margin: float


@dataclass(frozen=True)
class ClassDrift:
    """The results for the images of one class.

    Attributes:
        label: name of the class: the true class of labelled images, else the class that the reference predicts.
        images: number of images of the class.
        reference_top1: the reference's top-1 accuracy on them, in 0..1; None if they are not labelled.
        candidate_top1: the candidate's top-1 accuracy, likewise.
        agreement: fraction of them on which both models agree.
    """

    label: str
    images: int
    reference_top1: float | None
    candidate_top1: float | None
    agreement: float


@dataclass(frozen=True)
class PredictedClass:
    """A class that the candidate predicts, rightly or not.

    Attributes:
        index: the class's index among the candidate's outputs, from 0.
        label: name of the class.
        images: number of images for which it is the most probable class; of several that tie, the first counts.
        share: fraction of all images, in 0..1.
        mean_probability: mean of its probability on these images.
    """

    index: int
    label: str
    images: int
    share: float
    mean_probability: float


@dataclass(frozen=True)
class Histogram:
    """The distribution of an activation's values in the float model and in the INT8 model.

    Attributes:
        low: lower end of the first bin, a real number.
        high: upper end of the last bin.
        reference: counts of the float model's values, one per bin.
        candidate: counts of the INT8 model's dequantized values, in the same bins.
        scale: scale of the INT8 model's tensor, in real units per integer step.
        grid_low: smallest real number that the INT8 model's tensor can hold.
        grid_high: largest real number that it can hold.
    """

    low: float
    high: float
    reference: tuple[int, ...]
    candidate: tuple[int, ...]
    scale: float
    grid_low: float
    grid_high: float


@dataclass(frozen=True)
class LayerDrift:
    """The drift of one operator's output in the INT8 model from its counterpart in the float model.

    "Alone" means that the operator was run on the float model's activations at its input, quantized: the error is then
    the operator's own. The other measures include the accumulated error of the operators before it. Noise is the
    difference of the two outputs as real numbers.

    Attributes:
        index: the operator's position in the INT8 model's order of execution; -1 for the model's input.
        operator: the operator's type, such as ``CONV_2D``; ``INPUT`` for the model's input.
        name: name of the operator's output tensor in the float model.
        shape: shape of that tensor, including the batch dimension.
        sqnr_db: signal-to-quantization-noise ratio (SQNR) in decibels, with accumulated error; None if there is no
            noise.
        alone_sqnr_db: SQNR in decibels of the operator alone; None if there is no noise.
        cosine: cosine similarity of the two outputs, with accumulated error; in -1..1.
        gain: least-squares slope of the INT8 output over the float output, of the operator alone; 1 is ideal.
        mean_shift: fraction of the noise power that is constant within each channel (a wrong bias), of the operator
            alone; in 0..1.
        saturation: fraction of the float values that exceed the INT8 tensor's range by more than half a step, in 0..1.
        range_use: fraction of the INT8 tensor's range that the float values span, in 0..1.
        weight_sqnr_db: SQNR of the weights in decibels; None if the operator has no weights, or they have no noise.
        histogram: distribution of the output's values; None except for the worst operators.
    """

    index: int
    operator: str
    name: str
    shape: tuple[int, ...]
    sqnr_db: float | None
    alone_sqnr_db: float | None
    cosine: float
    gain: float
    mean_shift: float
    saturation: float
    range_use: float
    weight_sqnr_db: float | None
    histogram: Histogram | None = None


@dataclass(frozen=True)
class Comparison:
    """The measured drift of a candidate model from its reference. Proportions are in 0..1; None means unknown.

    If k classes tie for the most probable, each counts as 1/k of a top-1 prediction in accuracies and agreement.

    Attributes:
        images: number of images compared.
        labelled: number of images with a known class.
        skipped: files that could not be read, each with the reason.
        reference: results of the model that was compared with, usually float32.
        candidate: results of the measured model, usually INT8.
        agreement: fraction of the images on which both models predict the same class.
        agreement_ci95: 95 % interval of the agreement (Wilson's score interval).
        top1_drop: the reference's top-1 accuracy minus the candidate's; positive if the candidate is worse.
        top1_drop_ci95: 95 % interval of the drop, for paired data (Agresti and Min 2005, Statistics in Medicine 24).
        mcnemar_p: p-value of the two-sided exact McNemar test of equal top-1 accuracies; None if no image is labelled.
        calibration_overlap: number of images that one of the models was calibrated or refined on, where drift is likely
            to be underestimated.
        ties: number of images on which the most probable class of either model is a tie.
        kl_mean: generalized Kullback-Leibler divergence of the candidate's probabilities q from the reference's p,
            sum(p log(p/q) - p + q) in nats with q floored at 1e-6, mean over the images.
        l1_mean: L1 distance of the two models' probabilities, mean over the images; in 0..2.
        sqnr_db: power of the reference's outputs over the power of the difference, over all images, in decibels; of
            logits if both models output logits, else of probabilities.
        flips: images on which the predicted classes differ, the largest margins first; at most 1,000.
        classes: drift class by class, the worst first; without the classes on which both models always agree.
        notes: notes on the models, the images and what was done to make the models comparable; each is a sentence.
        layers: drift layer by layer, the lowest SQNR alone first; None if it was not requested.
        faults: what is broken according to the layers, in the order of the network; sentences without a full stop.
        advice: what to try next; sentences without a full stop.
        more_flips: number of images with differing predicted classes that are not in `flips`.
        predicted: the classes that the candidate predicts, the most frequent first. ``edgeq watch --expect`` compares
            them with what a camera sees.
        top_probabilities: number of images by the candidate's probability of the class that it predicts, in
            `PROBABILITY_BINS` equal parts of [0, 1]; the last one includes 1.
    """

    images: int
    labelled: int
    skipped: tuple[tuple[str, str], ...]
    reference: ModelResult
    candidate: ModelResult
    agreement: float
    agreement_ci95: tuple[float, float]
    top1_drop: float | None
    top1_drop_ci95: tuple[float, float] | None
    mcnemar_p: float | None
    calibration_overlap: int
    ties: int
    kl_mean: float
    l1_mean: float
    sqnr_db: float | None
    flips: tuple[Flip, ...]
    classes: tuple[ClassDrift, ...]
    notes: tuple[str, ...]
    layers: tuple[LayerDrift, ...] | None = None
    faults: tuple[str, ...] = ()
    advice: tuple[str, ...] = ()
    more_flips: int = 0
    predicted: tuple[PredictedClass, ...] = ()
    top_probabilities: tuple[int, ...] = ()

    @property
    def flipped(self) -> int:
        """Number of all images on which the predicted classes differ."""
        return len(self.flips) + self.more_flips

    def to_json(self) -> dict[str, Any]:
        """Return the attributes as plain JSON data; an infinite `sqnr_db` (no difference at all) is null."""
        document = asdict(self)
        if self.sqnr_db is not None and not math.isfinite(self.sqnr_db):
            document["sqnr_db"] = None
        return document

    def missed_limits(self, max_drop: float | None = None, min_agreement: float | None = None) -> list[str]:
        """Check the comparison against limits, for example before a release.

        Args:
            max_drop: largest acceptable top-1 drop, in -1..1; None for no limit.
            min_agreement: smallest acceptable agreement, in 0..1; None for no limit.

        Returns:
            One sentence per missed limit; empty if all limits are met.

        Raises:
            InputError: the drop is limited, but no image has a known class.
        """
        reasons = []
        if max_drop is not None:
            if self.top1_drop is None:
                raise InputError("a limit on the top-1 drop needs images with known classes")
            if not self.top1_drop <= max_drop:  # a NaN limit counts as missed
                reasons.append(f"top-1 drops by {self.top1_drop:.4f}, more than {max_drop}")
        if min_agreement is not None and not self.agreement >= min_agreement:
            reasons.append(f"agreement is {self.agreement:.4f}, less than {min_agreement}")
        return reasons
