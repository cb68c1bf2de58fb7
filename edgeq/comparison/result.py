"""The results of a comparison. These classes are the JSON that ``edgeq compare --json`` writes."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass
from typing import Any

from edgeq.errors import InputError

__all__ = ["ClassDrift", "Comparison", "Flip", "Histogram", "LayerDrift", "ModelResult"]


@dataclass(frozen=True)
class ModelResult:
    """One of the two models.

    Attributes:
        path: of the file.
        sha256: of the file, in hexadecimal.
        runtime: name and version of what ran it.
        top1: share of the labelled images whose label is the most probable class; None without labels.
        top5: the same for the five most probable.
        latency_ms: median time of one invocation on one thread, in milliseconds, without preprocessing.
        size_bytes: of the file.
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
        file: the image.
        label: its true class's name, or None where it is not known.
        reference: name of the reference's class.
        candidate: name of the candidate's class.
        reference_probability: that the reference gives its class.
        candidate_probability: that the candidate gives its class.
        reference_margin: the reference's probability of its own class minus that of the candidate's class; a
            small one says that the image was undecided to begin with.
        candidate_margin: the candidate's probability of its own class minus that of the reference's class.
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
        label: name of the class: the true one of labelled images, else the reference's.
        images: how many.
        reference_top1: the reference's top-1 among them; None without labels.
        candidate_top1: the candidate's.
        agreement: share of them on which the two agree.
    """

    label: str
    images: int
    reference_top1: float | None
    candidate_top1: float | None
    agreement: float


@dataclass(frozen=True)
class Histogram:
    """The distribution of an activation's values, in the float model and on the integer grid.

    Attributes:
        low: real number that the first bin begins with.
        high: real number that the last bin ends with.
        reference: counts of the float model's values, one per bin.
        candidate: counts of the INT8 model's, the same bins.
        scale: real units per integer step of the INT8 model's tensor.
        grid_low: smallest real number that the tensor can hold.
        grid_high: largest.
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
    """Drift of one operator of the INT8 model from its counterpart in the float model.

    "Alone" is with the float model's own input, quantized: the error of the operator itself. The other measures
    include the error of the layers before it. Noise is the difference of the two activations, as real numbers.

    Attributes:
        index: place of the operator in the INT8 model's order of execution; -1 for the input itself.
        operator: its kind, such as ``CONV_2D``; ``INPUT`` for the input itself.
        name: name of its output tensor in the float model.
        shape: of that tensor, with the batch.
        sqnr_db: signal to noise ratio in decibels, with accumulated error; None where there is no noise.
        alone_sqnr_db: the same alone.
        cosine: cosine similarity of the two activations, in -1..1.
        gain: slope of the INT8 activation over the float one (least squares), alone; 1 is right.
        mean_shift: share of the noise power, alone, that is a constant of each channel, as a wrong bias makes; in 0..1.
        saturation: share of the INT8 values at an end of their range, where the float value lies beyond it by more
            than half a step; in 0..1.
        range_use: share of the INT8 tensor's range that the float values span, in 0..1.
        weight_sqnr_db: signal to noise ratio of the weights alone; None for operators without, or without noise.
        histogram: of the activation; only for the worst layers, else None.
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
    """A candidate measured against its reference. Proportions are in 0..1; None means unknown.

    Where k classes tie for the most probable, each counts as 1/k of a top-1, here and in the agreement.

    Attributes:
        images: how many were compared.
        labelled: how many of them have a known class.
        skipped: files that could not be read, each with the reason.
        reference: the model that is taken as right, usually FP32.
        candidate: the model in question, usually INT8.
        agreement: share of the images on which both have the same top-1.
        agreement_ci95: its 95 % interval (Wilson's score interval).
        top1_drop: the reference's top-1 minus the candidate's; positive means that the candidate is worse.
        top1_drop_ci95: its 95 % interval, paired (Agresti and Min 2005, Statistics in Medicine 24).
        mcnemar_p: two-sided exact McNemar test of no difference in top-1; None without labels.
        calibration_overlap: images that one of the models was calibrated on; its drift on them says little.
        ties: images on which either model's top-1 is a tie.
        kl_mean: mean over the images of the Kullback-Leibler divergence of the candidate's probabilities from
            the reference's, in nats (generalized: sum p log(p/q) - p + q); q is floored at 1e-6.
        l1_mean: mean over the images of the sum of absolute differences of probabilities, in 0..2.
        sqnr_db: power of the reference's outputs over that of the difference, in decibels, over all images;
            of logits where both models give logits, else of probabilities.
        flips: images whose top-1 differ, the most decided first.
        classes: drift class by class, the worst first; only classes that have a flip.
        notes: what was done to make the two comparable, as sentences.
        layers: drift layer by layer, the worst single layer first; None if it was not requested.
        faults: what the layers say is broken, as sentences without a full stop, in the order of the network.
        advice: what could be tried next, as sentences without a full stop.
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

    def to_json(self) -> dict[str, Any]:
        """Plain JSON data, with the names of the attributes; an infinite SQNR (no difference at all) is null."""
        document = asdict(self)
        if self.sqnr_db is not None and not math.isfinite(self.sqnr_db):
            document["sqnr_db"] = None
        return document

    def missed_limits(self, max_drop: float | None = None, min_agreement: float | None = None) -> list[str]:
        """Check the comparison against limits, as a gate before a release does.

        Args:
            max_drop: by how much the top-1 may drop, in -1..1; None for any.
            min_agreement: share of the images on which the two have to agree, in 0..1; None for any.

        Returns:
            Why limits are missed; empty if all are met.

        Raises:
            InputError: the drop is limited, but no image has a known class.
        """
        reasons = []
        if max_drop is not None:
            if self.top1_drop is None:
                raise InputError("a limit on the top-1 drop needs images with known classes")
            if not self.top1_drop <= max_drop:  # a limit that is NaN is missed too
                reasons.append(f"top-1 drops by {self.top1_drop:.4f}, more than {max_drop}")
        if min_agreement is not None and not self.agreement >= min_agreement:
            reasons.append(f"agreement is {self.agreement:.4f}, less than {min_agreement}")
        return reasons
