"""Accumulate a comparison image by image. Only the list of flips grows with the number of images."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from edgeq.comparison import metrics
from edgeq.comparison.dataset import LabelledImage
from edgeq.comparison.pair import Outputs
from edgeq.comparison.result import ClassDrift, Comparison, Flip, ModelResult

__all__ = ["Score", "Tally"]


@dataclass
class Score:
    """The number of correct predictions of one model.

    Attributes:
        labelled: number of images with a known class.
        top1: number of them for which that class was the most probable; a tie of k classes counts 1/k.
        top5: number of them for which that class was among the five most probable.
    """

    labelled: int = 0
    top1: float = 0.0
    top5: float = 0.0


@dataclass
class _ClassTally:
    images: int = 0
    labelled: int = 0
    reference_top1: float = 0.0
    candidate_top1: float = 0.0
    agreement: float = 0.0


@dataclass
class Tally:
    """The running sums of a comparison.

    Attributes:
        labels: the classes' names, or empty.
        images: number of images added.
        skipped: files that could not be read, each with the reason.
        reference: the reference's correct predictions.
        candidate: the candidate's correct predictions.
    """

    labels: Sequence[str] = ()
    images: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)
    reference: Score = field(default_factory=Score)
    candidate: Score = field(default_factory=Score)
    _only_reference: float = 0.0
    _only_candidate: float = 0.0
    _agreement: float = 0.0
    _overlap: int = 0
    _ties: int = 0
    _kl: float = 0.0
    _l1: float = 0.0
    _signal: float = 0.0
    _noise: float = 0.0
    _flips: list[Flip] = field(default_factory=list)
    _classes: defaultdict[int, _ClassTally] = field(default_factory=lambda: defaultdict(_ClassTally))

    def add(self, image: LabelledImage, outputs: Outputs) -> None:
        """Add the outputs of both models for one image."""
        p, q = outputs.reference, outputs.candidate
        reference_top, candidate_top = metrics.top_set(p), metrics.top_set(q)
        agreement = metrics.shared_top1(reference_top, candidate_top)
        self.images += 1
        self._agreement += agreement
        self._overlap += outputs.calibrated_on
        self._ties += reference_top.size > 1 or candidate_top.size > 1
        self._kl += metrics.kl_divergence(p, q)
        self._l1 += metrics.l1_distance(p, q)
        self._signal += outputs.signal
        self._noise += outputs.noise
        group = self._classes[int(reference_top[0]) if image.class_index is None else image.class_index]
        group.images += 1
        group.agreement += agreement
        if image.class_index is not None:
            self._add_labelled(image.class_index, p, q, group)
        if agreement == 0:
            self._flips.append(self._flip(image, p, q))

    def result(self, reference: ModelResult, candidate: ModelResult, notes: tuple[str, ...]) -> Comparison:
        """Compute the measures from the sums; at least one image must have been added."""
        n, labelled = self.images, self.reference.labelled
        discordant = (self._only_reference, self._only_candidate, labelled)
        return Comparison(
            images=n,
            labelled=labelled,
            skipped=tuple(self.skipped),
            reference=reference,
            candidate=candidate,
            agreement=self._agreement / n,
            agreement_ci95=metrics.wilson_interval(self._agreement, n),
            top1_drop=(self.reference.top1 - self.candidate.top1) / labelled if labelled else None,
            top1_drop_ci95=metrics.paired_difference_interval(*discordant) if labelled else None,
            mcnemar_p=metrics.mcnemar_p(*discordant[:2]) if labelled else None,
            calibration_overlap=self._overlap,
            ties=self._ties,
            kl_mean=self._kl / n,
            l1_mean=self._l1 / n,
            sqnr_db=metrics.sqnr_db(self._signal, self._noise),
            flips=tuple(sorted(self._flips, key=lambda f: (-f.reference_margin - f.candidate_margin, f.file))),
            classes=self._class_drift(),
            notes=notes,
        )

    def _add_labelled(
        self, label: int, p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], group: _ClassTally
    ) -> None:
        shares = []
        for score, probabilities in ((self.reference, p), (self.candidate, q)):
            shares.append(metrics.top_k_credit(probabilities, label, 1))
            score.labelled += 1
            score.top1 += shares[-1]
            score.top5 += metrics.top_k_credit(probabilities, label, 5)
        first, second = shares
        self._only_reference += max(0.0, first - second)
        self._only_candidate += max(0.0, second - first)
        group.labelled += 1
        group.reference_top1 += first
        group.candidate_top1 += second

    def _flip(self, image: LabelledImage, p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> Flip:
        a, b = int(p.argmax()), int(q.argmax())
        return Flip(
            file=str(image.path),
            label=None if image.class_index is None else self._name(image.class_index),
            reference=self._name(a),
            candidate=self._name(b),
            reference_probability=float(p[a]),
            candidate_probability=float(q[b]),
            reference_margin=float(p[a] - p[b]),
            candidate_margin=float(q[b] - q[a]),
        )

    def _class_drift(self) -> tuple[ClassDrift, ...]:
        drifts = [
            ClassDrift(
                label=self._name(index),
                images=group.images,
                reference_top1=group.reference_top1 / group.labelled if group.labelled else None,
                candidate_top1=group.candidate_top1 / group.labelled if group.labelled else None,
                agreement=group.agreement / group.images,
            )
            for index, group in sorted(self._classes.items())
            if not math.isclose(group.agreement, group.images)
        ]

        def worst_first(drift: ClassDrift) -> tuple[float, float]:
            return ((drift.candidate_top1 or 0.0) - (drift.reference_top1 or 0.0), drift.agreement)

        return tuple(sorted(drifts, key=worst_first))

    def _name(self, index: int) -> str:
        return self.labels[index] if self.labels else str(index)
